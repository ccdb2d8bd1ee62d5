"""Durable files in a local folder: nothing is seen half-written, nothing is lost.

Owns the order temp file, fsync, link or rename, fsync of the folder. Must never know
what the files mean.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from checkpoints.errors import NotFound
from checkpoints.faults import storage_error

_NO_SECRETS: frozenset[str] = frozenset()
# What file systems without hard links answer to os.link.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


class Sink(Protocol):
    """What `open_write` gives: bytes go in, in order."""

    def write(self, data: bytes | memoryview, /) -> object: ...


class LocalStorage:
    """A folder of this machine, or of a network file system that it has mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"LocalStorage({self.url!r})"

    @property
    def url(self) -> str:
        return str(self._folder)

    @property
    def local_dir(self) -> Path | None:
        return self._folder

    def child(self, path: str) -> LocalStorage:
        return LocalStorage(self._folder / path)

    def read_bytes(self, path: str) -> bytes:
        with self._translated("read", path) as file:
            return file.read_bytes()

    def read_range(self, path: str, start: int, size: int) -> bytes:
        with self._translated("read", path) as file, file.open("rb") as source:
            source.seek(start)
            return source.read(size)

    def write_bytes(self, path: str, data: bytes) -> None:
        with self.open_write(path) as target:
            target.write(data)

    def create_exclusive(self, path: str, data: bytes) -> None:
        with self._translated("create", path) as file:
            _make_folder(file.parent)
            temp = _temp_name(file)
            try:
                with temp.open("xb") as target:
                    target.write(data)
                    _sync(target)
                _publish_exclusively(temp, file, data)
            finally:
                temp.unlink(missing_ok=True)
            _sync_folder(file.parent)

    @contextmanager
    def open_write(self, path: str) -> Iterator[Sink]:
        with self._translated("write", path) as file:
            _make_folder(file.parent)
            temp = _temp_name(file)
            target = temp.open("xb")
        try:
            yield _LocalSink(target, str(file))
            with self._translated("write", path):
                _sync(target)
                target.close()
                os.replace(temp, file)
                _sync_folder(file.parent)
        finally:
            # After a full disk, closing flushes once more and fails once more.
            with suppress(OSError):
                target.close()
            with suppress(OSError):
                temp.unlink(missing_ok=True)

    def exists(self, path: str) -> bool:
        with self._translated("look up", path) as file:
            try:
                file.stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def size(self, path: str) -> int:
        with self._translated("look up", path) as file:
            return file.stat().st_size

    def list(self, path: str = "") -> list[str]:
        with self._translated("list", path) as folder:
            try:
                return sorted(os.listdir(folder))
            except FileNotFoundError:
                return []

    def delete(self, path: str) -> None:
        with self._translated("delete", path) as file:
            try:
                file.unlink()
            except FileNotFoundError:
                return
            except (IsADirectoryError, PermissionError):
                # POSIX answers EPERM, Linux EISDIR, when a folder is unlinked.
                if not file.is_dir():
                    raise
                shutil.rmtree(file)
            _sync_folder(file.parent)

    @contextmanager
    def _translated(self, action: str, path: str) -> Iterator[Path]:
        file = self._folder / path
        try:
            yield file
        except FileNotFoundError as err:
            if action in {"read", "look up"}:
                raise NotFound(
                    f"{file}: no such file: it must exist to be read; check the path"
                ) from err
            raise storage_error(action, str(file), err, _NO_SECRETS) from err
        except FileExistsError:
            raise
        except OSError as err:
            raise storage_error(action, str(file), err, _NO_SECRETS) from err


class _LocalSink:
    # Only the file's own faults are translated; the caller's pass as they are.
    def __init__(self, target: BinaryIO, shown: str) -> None:
        self._target = target
        self._shown = shown

    def write(self, data: bytes | memoryview, /) -> None:
        try:
            self._target.write(data)
        except OSError as err:
            raise storage_error("write", self._shown, err, _NO_SECRETS) from err


def _temp_name(file: Path) -> Path:
    # It keeps the file's name, from which the age of a leftover is read.
    return file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")


def _publish_exclusively(temp: Path, file: Path, data: bytes) -> None:
    try:
        os.link(temp, file)
    except OSError as err:
        if err.errno not in _NO_LINKS:
            raise
        # Not atomic in content: a kill here leaves a torn file, which its checksum
        # shows. Still only one of two writers wins.
        with file.open("xb") as target:
            target.write(data)
            _sync(target)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as err:
        raise NotADirectoryError(errno.ENOTDIR, "a file is in the way") from err
    _sync_folder(folder.parent)


def _sync(target: BinaryIO) -> None:
    target.flush()
    os.fsync(target.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as err:
        # Some network file systems cannot sync a folder; they need not.
        if err.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)
