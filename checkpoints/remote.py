"""Files below a prefix of an fsspec file system: retries, exclusive creation, faults.

Owns how each operation is made safe on a storage that others write to as well. Must
never import a client; `checkpoints.storage` hands the file system over.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from checkpoints.errors import NotFound
from checkpoints.faults import (
    error_code,
    is_absent,
    is_taken,
    is_transient,
    storage_error,
)
from checkpoints.local import Sink

_Result = TypeVar("_Result")

_PAUSES_S = (0.5, 2.0)  # between tries; most clients try again by themselves too
# They have no folders. Asked to make one, some clients create a missing bucket.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss"})


class FsspecStorage:
    """A prefix of any fsspec file system; made by `open_storage`."""

    def __init__(self, fs: Any, root: str, url: str, secrets: frozenset[str]) -> None:
        self._fs = fs
        self._root = root.rstrip("/")
        self._url = url.rstrip("/")
        self._secrets = secrets
        protocol = fs.protocol
        names = (protocol,) if isinstance(protocol, str) else tuple(protocol)
        self._has_folders = not _OBJECT_STORES.intersection(names)

    def __repr__(self) -> str:
        return f"FsspecStorage({self._url!r})"

    @property
    def url(self) -> str:
        return self._url

    @property
    def local_dir(self) -> Path | None:
        return None

    def child(self, path: str) -> FsspecStorage:
        root, url = f"{self._root}/{path}", f"{self._url}/{path}"
        return FsspecStorage(self._fs, root, url, self._secrets)

    def read_bytes(self, path: str) -> bytes:
        full = self._full(path)
        return bytes(self.call("read", path, lambda: self._fs.cat_file(full)))

    def read_range(self, path: str, start: int, size: int) -> bytes:
        if size == 0:
            return b""
        full, end = self._full(path), start + size

        def read() -> bytes:
            return bytes(self._fs.cat_file(full, start=start, end=end))

        return self.call("read", path, read)

    def write_bytes(self, path: str, data: bytes) -> None:
        full = self._full(path)
        self._make_parent(path)
        self.call("write", path, lambda: self._fs.pipe_file(full, data))

    def create_exclusive(self, path: str, data: bytes) -> None:
        # A server or client that ignores the exclusive mode still finds most losers.
        if self.exists(path):
            raise FileExistsError(f"{self._url}/{path}")
        full = self._full(path)
        self._make_parent(path)

        def create() -> None:
            try:
                self._fs.pipe_file(full, data, mode="create")
            except (OSError, NotImplementedError) as err:
                if error_code(err) != "NotImplemented":
                    raise
                self._fs.pipe_file(full, data)

        self.call("create", path, create)

    @contextmanager
    def open_write(self, path: str) -> Iterator[Sink]:
        self._make_parent(path)
        full = self._full(path)
        target = self.call("write", path, lambda: self._fs.open(full, "wb"))
        try:
            yield _FsspecSink(self, path, target)
            self._once("write", path, target.close)
        except BaseException:
            self._discard(full, target)
            raise

    def exists(self, path: str) -> bool:
        full = self._full(path)
        try:
            self.call("look up", path, lambda: self._fs.info(full))
        except NotFound:
            return False
        return True

    def size(self, path: str) -> int:
        full = self._full(path)
        return int(self.call("look up", path, lambda: self._fs.info(full))["size"])

    def list(self, path: str = "") -> list[str]:
        full = self._full(path)
        try:
            found = self.call("list", path, lambda: self._fs.ls(full, detail=False))
        except NotFound:
            return []
        names = {name.rstrip("/") for name in found} - {full, full.strip("/")}
        return sorted(name.rpartition("/")[2] for name in names)

    def delete(self, path: str) -> None:
        # File by file: s3fs drops the errors of its bulk delete.
        for name in self.call("list", path, lambda: self._fs.find(self._full(path))):
            with suppress(NotFound):
                self.call("delete", path, partial(self._fs.rm_file, name))
        if self._has_folders:
            with suppress(NotFound):
                full = self._full(path)
                self.call("delete", path, lambda: self._fs.rm(full, recursive=True))

    def call(self, action: str, path: str, function: Callable[[], _Result]) -> _Result:
        """Returns what the function gives, trying again after a transient fault."""
        for pause_s in _PAUSES_S:
            try:
                return function()
            except Exception as err:  # noqa: BLE001  clients raise what they like
                if is_taken(err) or not is_transient(err):
                    fault = self._fault(action, path, err)
                    break
            time.sleep(pause_s * random.uniform(0.5, 1.0))
        else:
            return self._once(action, path, function)
        # Outside the except block: a hidden cause must not come back as context.
        raise fault

    def _once(self, action: str, path: str, function: Callable[[], _Result]) -> _Result:
        try:
            return function()
        except Exception as err:  # noqa: BLE001  clients raise what they like
            fault = self._fault(action, path, err)
        raise fault

    def _fault(self, action: str, path: str, error: Exception) -> Exception:
        shown = f"{self._url}/{path}" if path else self._url
        if action == "create" and is_taken(error):
            return FileExistsError(shown)
        if action not in {"write", "create"} and is_absent(error):
            return NotFound(
                f"{shown}: nothing is there: it must exist to be read; check the URL"
            )
        return storage_error(action, shown, error, self._secrets)

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _make_parent(self, path: str) -> None:
        if self._has_folders:
            parent = self._full(path).rpartition("/")[0]
            self.call("write", path, lambda: self._fs.makedirs(parent, exist_ok=True))

    def _discard(self, full: str, target: Any) -> None:
        # Best effort, because the exception on its way says more than one from here.
        # Closing would commit what was written, so it must not happen.
        with suppress(Exception):
            target.discard()
        with suppress(Exception):
            target.closed = True
        with suppress(Exception):
            self._fs.rm_file(full)


class _FsspecSink:
    def __init__(self, storage: FsspecStorage, path: str, target: Any) -> None:
        self._storage = storage
        self._path = path
        self._target = target

    def write(self, data: bytes | memoryview, /) -> None:
        self._storage._once("write", self._path, lambda: self._target.write(data))
