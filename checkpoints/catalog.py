"""The step folders of one run: which exist, which are committed, which may go.

Owns the names on disk and the order of a deletion. Must never read a data file.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Collection
from contextlib import suppress

from checkpoints.errors import CheckpointError, Corrupt, NotFound, StorageError
from checkpoints.manifest import MANIFEST_NAME, CheckpointInfo, Manifest
from checkpoints.storage import Storage

_log = logging.getLogger(__name__)

_DAMAGED_NAME = "manifest.damaged.json"
_STEP = re.compile(r"step-(\d{8,})")
_ATTEMPT_TIME = re.compile(r"\b(\d{13})-[0-9a-f]{12}-rank")


def new_attempt_id() -> str:
    """Returns a name that no other save has; it begins with Unix milliseconds."""
    return f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(6)}"


class Catalog:
    """The folder `checkpoints/` of a run."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._infos: dict[int, CheckpointInfo | None] = {}  # None: damaged

    @property
    def url(self) -> str:
        return self._storage.url

    def folder(self, step: int) -> Storage:
        """Returns the folder of a step."""
        return self._storage.child(_name(step))

    def steps(self) -> tuple[list[int], list[int]]:
        """Returns the steps with a manifest and those without, both ascending."""
        matches = (_STEP.fullmatch(name) for name in self._storage.list())
        steps = sorted(int(match[1]) for match in matches if match)
        committed = [s for s in steps if self.folder(s).exists(MANIFEST_NAME)]
        return committed, [step for step in steps if step not in committed]

    def manifest(self, step: int) -> Manifest:
        """Returns a step's manifest.

        Raises:
            NotFound: The step is not committed.
            Corrupt: The manifest is damaged.
        """
        manifest = Manifest.from_bytes(self.folder(step).read_bytes(MANIFEST_NAME))
        if manifest.step != step:
            raise Corrupt(
                f"{MANIFEST_NAME} is that of step {manifest.step}: it must be that of "
                "its folder; restore another step"
            )
        return manifest

    def require_free(self, step: int) -> None:
        """Refuses a step that is committed, before anything is written for it.

        Raises:
            CheckpointError: It is.
        """
        if self.folder(step).exists(MANIFEST_NAME):
            raise _taken(self.folder(step).url)

    def commit(self, manifest: Manifest) -> CheckpointInfo:
        """Makes a step visible, unless another save has done so before.

        Raises:
            CheckpointError: Another save has committed this step.
            StorageError: It is unknown whether the manifest was created.
        """
        folder = self.folder(manifest.step)
        try:
            folder.create_exclusive(MANIFEST_NAME, manifest.to_bytes())
        except FileExistsError as err:
            # A try whose answer got lost may have created it: what is there decides.
            if not self._is_own(manifest):
                raise _taken(folder.url) from err
        except StorageError:
            with suppress(StorageError):
                if self._is_own(manifest):
                    return self._remember(manifest)
            raise
        return self._remember(manifest)

    def _remember(self, manifest: Manifest) -> CheckpointInfo:
        info = manifest.info(self.folder(manifest.step).url)
        self._infos[manifest.step] = info
        return info

    def infos(self) -> list[CheckpointInfo]:
        """Returns all committed steps, ascending; a damaged one is logged."""
        self._infos.clear()
        return self.known_infos()

    def known_infos(self) -> list[CheckpointInfo]:
        """Returns `infos()`, reading only the manifests that were not read before."""
        committed, _ = self.steps()
        for step in committed:
            if step not in self._infos:
                self._infos[step] = self._try_info(step)
        infos = (self._infos[step] for step in committed)
        return [info for info in infos if info is not None]

    def remove(self, steps: Collection[int]) -> None:
        """Deletes steps: the manifest first, so that no half of one is ever valid."""
        for step in sorted(steps):
            self._infos.pop(step, None)
            self.folder(step).delete(MANIFEST_NAME)
            self._storage.delete(_name(step))

    def set_aside(self, step: int) -> None:
        """Takes a damaged manifest away, so that its step can be saved again."""
        folder = self.folder(step)
        self._infos.pop(step, None)
        folder.write_bytes(_DAMAGED_NAME, folder.read_bytes(MANIFEST_NAME))
        folder.delete(MANIFEST_NAME)

    def sweep(self, min_age_s: float) -> None:
        """Deletes folders that have had no manifest for a long time.

        Their age is that of the youngest attempt in them, by its name; a folder in
        which nothing tells an age stays.
        """
        for step in self.steps()[1]:
            names = " ".join(self._storage.list(_name(step)))
            starts = [int(start) / 1000 for start in _ATTEMPT_TIME.findall(names)]
            if starts and time.time() - max(starts) > min_age_s:
                _log.info("%s was never finished: deleted", self.folder(step).url)
                self._storage.delete(_name(step))

    def _try_info(self, step: int) -> CheckpointInfo | None:
        try:
            return self.manifest(step).info(self.folder(step).url)
        except NotFound:  # deleted since it was listed
            return None
        except StorageError:
            raise
        except CheckpointError as err:
            _log.warning("%s is left out: %s", self.folder(step).url, err)
            return None

    def _is_own(self, manifest: Manifest) -> bool:
        try:
            there = self.manifest(manifest.step)
        except StorageError:
            raise
        except CheckpointError:
            return False
        return there.attempt_id == manifest.attempt_id


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _taken(url: str) -> CheckpointError:
    return CheckpointError(
        f"{url} is committed already, by another save: a step is written once, by one "
        "process; another process writes into this run, or this step was saved before: "
        "stop the other process, or choose a run URL of its own"
    )
