"""`CheckpointManager`: saves and restores, in the order that makes a commit safe.

The only file that orders a commit: state, data file, agreement of all ranks, manifest.
Must never know models, Ray or a file system's client.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from checkpoints.catalog import Catalog, new_attempt_id
from checkpoints.choices import Mode, Verify, choose, require_at_least
from checkpoints.collective import (
    Collective,
    ProcessGroupCollective,
    SingleProcess,
    attempt,
    close_group,
    on_root,
    open_group,
)
from checkpoints.errors import CheckpointError, NotFound, StorageError
from checkpoints.handle import SaveHandle
from checkpoints.housekeeping import Housekeeper
from checkpoints.layout import Encoded, encode
from checkpoints.manifest import CheckpointInfo, Manifest
from checkpoints.search import Found, read_newest_valid, read_step
from checkpoints.state_tree import collect_state, left_out, plan_restore
from checkpoints.storage import open_storage
from checkpoints.writer import write_blobs

_log = logging.getLogger(__name__)


class CheckpointManager:
    """Saves the state of a training run and finds it again.

    A step is written once, by one process. Under an initialised torch process group
    every rank calls the constructor, `save`, `restore` and `close`; rank 0 writes its
    own values, and every rank gets the same outcome.

    Args:
        run_url: The run's folder, any fsspec URL or local path.
        keep_latest: How many of the newest checkpoints stay, at least 1.
        keep_best: How many of the best by `metric` stay too; none without a metric.
        metric: The name in `metrics` that decides what is best.
        mode: `min` or `max`: whether a smaller or a larger metric is better.
        verify: `full` or `sizes`: what is checked before a checkpoint is restored.
        storage_options: Passed to the fsspec file system unchanged.
        collective: The ranks to work with; None takes torch's process group if there
            is one, through a gloo group of the manager's own.
        sweep_after_s: Age in seconds after which an unfinished checkpoint is deleted.

    Raises:
        ValueError: An argument breaks its rule.
        StorageError: The URL cannot be opened.
    """

    def __init__(
        self,
        run_url: str | os.PathLike[str],
        *,
        keep_latest: int = 3,
        keep_best: int = 0,
        metric: str | None = None,
        mode: Mode | str = Mode.MIN,
        verify: Verify | str = Verify.FULL,
        storage_options: Mapping[str, object] | None = None,
        collective: Collective | None = None,
        sweep_after_s: float = 86400.0,
    ) -> None:
        require_at_least("keep_latest", keep_latest, 1, "resume needs one")
        require_at_least("keep_best", keep_best, 0, "it is a count")
        require_at_least("sweep_after_s", sweep_after_s, 0, "it is an age in seconds")
        mode = choose("mode", mode, Mode)
        self._verify = choose("verify", verify, Verify)
        run = open_storage(run_url, storage_options)
        self._catalog = Catalog(run.child("checkpoints"))
        self._housekeeper = Housekeeper(
            self._catalog,
            keep_latest=keep_latest,
            keep_best=keep_best,
            metric=metric,
            mode=mode,
            sweep_after_s=sweep_after_s,
        )
        self._own_group = open_group() if collective is None else None
        if self._own_group is not None:
            collective = ProcessGroupCollective(self._own_group)
        self._collective: Collective = collective or SingleProcess()
        self._is_root = self._collective.rank == 0
        self._last: SaveHandle | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self.close()

    def save(
        self,
        step: int,
        state: Mapping[str, object],
        *,
        metrics: Mapping[str, float] | None = None,
    ) -> SaveHandle:
        """Saves a state under a step; all ranks must call this.

        Faults of the state or the storage are raised by the handle's `wait`, and by
        `CheckpointManager.wait` when no handle was asked.

        Args:
            step: Optimizer steps done, at least 0; a step can be saved once.
            state: Names to objects with `state_dict` and `load_state_dict`, or to
                nested dicts and lists of tensors, numbers, strings, None and bytes.
            metrics: Numbers that describe the step, for `best` and `keep_best`.

        Raises:
            ValueError: The step is no whole number from 0 on.
            CheckpointError: The manager is closed.
        """
        self._require_open()
        if type(step) is not int or step < 0:
            raise ValueError(f"step={step!r}: must be an int >= 0; pass steps done")
        info, error = self._save(step, state, metrics or {})
        self._last = SaveHandle(info, error)
        if error is not None:
            _log.error("step %d was not saved: %s", step, error)
        elif self._is_root:
            self._housekeeper.after_save()
        return self._last

    def restore(
        self, state: Mapping[str, object], *, step: int | None = None
    ) -> CheckpointInfo | None:
        """Puts a checkpoint into a state; all ranks must call this.

        Objects get `load_state_dict`; dicts, lists, tensors and arrays are updated in
        place. Nothing is modified before everything has been read and checked. A
        damaged or unfinished checkpoint is named in a warning and the newest valid one
        is taken; its own step can then be saved again.

        Args:
            state: The state as given to `save`, or some of its names.
            step: The only step to take; None takes the newest valid one.

        Returns:
            The checkpoint restored; None when the run has none yet.

        Raises:
            NotFound: `step` is not committed.
            Corrupt: No committed step is valid, or `step` is not.
            Incomplete: `step` misses a file or a part of one.
            Mismatch: The checkpoint does not fit the state.
            StorageError: The storage fails, so that nothing is known.
        """
        self._require_open()
        committed, unfinished = on_root(self._collective, self._catalog.steps)
        if step is not None and step not in committed:
            raise NotFound(
                f"step={step}: must be one of the committed steps "
                f"{committed or '(none)'} in {self._catalog.url}"
            )
        found = self._find(committed, step)
        if found is not None:
            self._put_back(state, found)
        if self._is_root:
            newest = found.manifest.step if found else -1
            newer = [s for s in unfinished if s > newest] if step is None else []
            damaged = found.damaged if found else ()
            self._housekeeper.after_restore(unfinished=newer, damaged=damaged)
        return self._info(found.manifest) if found else None

    def latest(self) -> CheckpointInfo | None:
        """Returns the newest committed checkpoint; its data is not verified."""
        infos = self.infos()
        return infos[-1] if infos else None

    def best(self) -> CheckpointInfo | None:
        """Returns the best kept checkpoint by `metric`; None when none has it."""
        return self._housekeeper.best(self.infos())

    def infos(self) -> list[CheckpointInfo]:
        """Returns all committed checkpoints, ascending; their data is not verified."""
        return self._catalog.infos()

    def wait(self) -> None:
        """Returns when no save is in flight.

        Raises:
            CheckpointError: The last save failed and no handle has reported it.
        """
        if self._last is not None:
            self._last.raise_unreported()

    def close(self) -> None:
        """Releases the manager's process group; all ranks must call this."""
        self._is_closed = True
        group, self._own_group = self._own_group, None
        if group is not None:
            close_group(group)

    def _save(
        self, step: int, state: Mapping[str, object], metrics: Mapping[str, float]
    ) -> tuple[CheckpointInfo | None, CheckpointError | None]:
        def take() -> Encoded | None:
            tree = collect_state(state)
            return encode(tree) if self._is_root else None

        encoded, error = attempt(self._collective, take)
        if error is not None:
            return None, error

        def write() -> CheckpointInfo | None:
            return self._write(step, encoded, metrics) if encoded else None

        info, error = attempt(self._collective, write)
        if error is not None:
            return None, error
        told = self._collective.broadcast(info)
        assert isinstance(told, CheckpointInfo)
        return told, None

    def _write(
        self, step: int, encoded: Encoded, metrics: Mapping[str, float]
    ) -> CheckpointInfo:
        attempt_id, created_at = new_attempt_id(), time.time()
        folder, name = self._catalog.folder(step), f"{attempt_id}-rank0000.bin"
        numbers = {str(key): float(value) for key, value in metrics.items()}
        self._catalog.require_free(step)
        records, files = write_blobs(folder, name, encoded.blobs)
        manifest = Manifest(
            attempt_id=attempt_id,
            created_at=created_at,
            step=step,
            metrics=numbers,
            skeleton=encoded.skeleton,
            tensors=tuple(records),
            files=files,
        )
        try:
            return self._catalog.commit(manifest)
        except StorageError:
            # The manifest may still appear, so its data must stay.
            raise
        except CheckpointError:
            with suppress(CheckpointError):
                folder.delete(name)
            raise

    def _find(self, committed: Sequence[int], step: int | None) -> Found | None:
        arguments = self._catalog, self._collective, self._verify
        if step is not None:
            return read_step(*arguments, step)
        return read_newest_valid(*arguments, committed[::-1]) if committed else None

    def _put_back(self, state: Mapping[str, object], found: Found) -> None:
        actions, error = attempt(
            self._collective, lambda: plan_restore(state, found.state)
        )
        if error is not None:
            raise error
        assert actions is not None
        _, error = attempt(self._collective, lambda: [act() for act in actions])
        if error is not None:
            raise error
        unused = left_out(state, found.state)
        if unused and self._is_root:
            _log.warning("in the checkpoint, but not restored: %s", ", ".join(unused))

    def _info(self, manifest: Manifest) -> CheckpointInfo:
        return manifest.info(self._catalog.folder(manifest.step).url)

    def _require_open(self) -> None:
        if self._is_closed:
            raise CheckpointError(
                "the manager is closed: it must be open to save and restore; "
                "make a new CheckpointManager"
            )
