"""Finds the newest step that every rank can read, and reads it.

Owns the fall-back from a damaged step to an older one. Must never modify anything,
neither on disk nor in the caller's state.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from checkpoints.catalog import Catalog
from checkpoints.choices import Verify
from checkpoints.collective import Collective, attempt
from checkpoints.errors import CheckpointError, Corrupt, Incomplete, NotFound
from checkpoints.manifest import Manifest
from checkpoints.reader import read_state

_log = logging.getLogger(__name__)

# What an older step makes up for. A storage that fails is no reason to lose work.
_DAMAGE = (Corrupt, Incomplete, NotFound)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A step that was read whole on this rank."""

    manifest: Manifest
    state: object
    damaged: tuple[int, ...]  # newer steps that rank 0 itself found damaged


def read_newest_valid(
    catalog: Catalog, collective: Collective, verify: Verify, steps: Sequence[int]
) -> Found:
    """Returns the first of some steps that all ranks can read; all ranks must call it.

    Args:
        catalog: The run's steps.
        collective: The ranks.
        verify: What is checked.
        steps: Committed steps, newest first; equal on all ranks.

    Raises:
        Corrupt: None of them is valid; names each.
        StorageError: The storage fails, so that nothing is known.
    """
    reasons: list[str] = []
    damaged: list[int] = []
    for step in steps:
        found, problem, is_roots = _read_everywhere(catalog, collective, verify, step)
        if found is not None:
            manifest, state = found
            return Found(manifest=manifest, state=state, damaged=tuple(damaged))
        assert problem is not None
        if not isinstance(problem, _DAMAGE):
            raise problem
        reasons.append(f"{catalog.folder(step).url}: {problem}")
        if is_roots:
            damaged.append(step)
        if collective.rank == 0:
            _log.warning("checkpoint skipped: %s", reasons[-1])
    raise Corrupt(
        "no committed checkpoint is valid:\n  "
        + "\n  ".join(reasons)
        + f"\none must be; put one back from a copy, or delete {catalog.url} to start "
        "again"
    )


def read_step(
    catalog: Catalog, collective: Collective, verify: Verify, step: int
) -> Found:
    """Returns one step, read on all ranks; all ranks must call it.

    Raises:
        CheckpointError: Some rank cannot read it; a subclass says why.
    """
    found, problem, _ = _read_everywhere(catalog, collective, verify, step)
    if found is None:
        assert problem is not None
        raise problem
    return Found(manifest=found[0], state=found[1], damaged=())


_Read = tuple[Manifest, object]


def _read_everywhere(
    catalog: Catalog, collective: Collective, verify: Verify, step: int
) -> tuple[_Read | None, CheckpointError | None, bool]:
    def read() -> _Read:
        manifest = catalog.manifest(step)
        return manifest, read_state(catalog.folder(step), manifest, verify)

    is_root = collective.rank == 0
    # Rank 0 goes first: a damaged step then costs one read, not one per rank.
    own, problem = attempt(collective, lambda: read() if is_root else None)
    if problem is not None:
        return None, problem, True
    found, problem = attempt(collective, lambda: own if is_root else read())
    return found, problem, False
