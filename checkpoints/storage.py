"""Files below a URL, on local disks and on any fsspec file system.

Owns the `Storage` contract and the import of fsspec and s3fs, which happens only when
a URL is not local. Must never know what the files mean.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from checkpoints.errors import StorageError
from checkpoints.faults import storage_error
from checkpoints.local import LocalStorage, Sink
from checkpoints.remote import FsspecStorage
from checkpoints.urls import local_path, public_url, scrub, secrets_in


class Storage(Protocol):
    """Files below one folder or prefix; every path is relative to it.

    Every method raises StorageError when the storage fails, and never shows a
    credential. Safe to use from several threads.
    """

    @property
    def url(self) -> str:
        """The address, without credentials; an absolute path when it is local."""

    @property
    def local_dir(self) -> Path | None:
        """The folder when it is on a mounted file system, otherwise None."""

    def child(self, path: str) -> Storage:
        """Returns the storage below `path`; opens nothing."""

    def read_bytes(self, path: str) -> bytes:
        """Returns a whole file; raises NotFound when it is not there."""

    def read_range(self, path: str, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start`, fewer where the file ends before."""

    def write_bytes(self, path: str, data: bytes) -> None:
        """Replaces a file at once: readers see the old bytes or the new ones."""

    def create_exclusive(self, path: str, data: bytes) -> None:
        """Creates a file, whole or not at all; raises FileExistsError if it is there.

        One of several concurrent callers wins where the storage can decide that
        (local, S3, Google Cloud Storage); elsewhere it is a check and then a write.
        """

    def open_write(self, path: str) -> AbstractContextManager[Sink]:
        """Opens a file for writing in order.

        It is durable when the block leaves without an exception. After an exception
        nothing can be read under its name.
        """

    def exists(self, path: str) -> bool:
        """Returns whether a file or a folder is there."""

    def size(self, path: str) -> int:
        """Returns a file's size in bytes; raises NotFound when it is not there."""

    def list(self, path: str = "") -> list[str]:
        """Returns the sorted names directly below; empty when nothing is there."""

    def delete(self, path: str) -> None:
        """Deletes a file or a folder with all in it; what is absent is fine."""


def open_storage(
    url: str | os.PathLike[str], storage_options: Mapping[str, object] | None = None
) -> Storage:
    """Returns the storage at a URL or local path; nothing is created yet.

    Args:
        url: Any fsspec URL, or a local path.
        storage_options: Passed to the fsspec file system unchanged.

    Raises:
        StorageError: The URL's scheme is unknown or its client is not installed.
    """
    folder = local_path(url)
    if folder is not None:
        return LocalStorage(folder)
    fs, path, secrets = _connect(os.fspath(url), storage_options or {})
    return FsspecStorage(fs, path, public_url(os.fspath(url)), secrets)


def find_files(
    pattern: str | os.PathLike[str],
    storage_options: Mapping[str, object] | None = None,
) -> list[str]:
    """Returns the sorted paths or URLs of the files that match a glob.

    Args:
        pattern: A local path or fsspec URL; `*`, `?`, `[...]` and `**` match.
        storage_options: Passed to the fsspec file system unchanged.
    """
    local = local_path(pattern)
    if local is not None:
        names = glob.glob(str(local), recursive=True)
        return sorted(name for name in names if os.path.isfile(name))
    url = os.fspath(pattern)
    fs, path, secrets = _connect(url, storage_options or {})
    storage = FsspecStorage(fs, "", public_url(url), secrets)
    found = storage.call("list", "", lambda: fs.glob(path, detail=True))
    files = [name for name, facts in found.items() if facts["type"] == "file"]
    return sorted(str(fs.unstrip_protocol(name)) for name in files)


def _connect(
    url: str, options: Mapping[str, object]
) -> tuple[Any, str, frozenset[str]]:
    import fsspec

    secrets = secrets_in(url, options)
    try:
        # Another process writes here too, so a cached listing may be wrong; a shared
        # instance would hand those caches to and take them from other code.
        own = {"use_listings_cache": False, "skip_instance_cache": True}
        fs, path = fsspec.url_to_fs(url, **{**options, **own})
    except ImportError as err:
        said = scrub(str(err), secrets)
        raise StorageError(
            f"{public_url(url)}: {said}: its client must be installed; "
            "for s3:// run `pip install 'perennial[s3]'`"
        ) from None
    except Exception as err:  # noqa: BLE001  clients raise what they like
        fault = storage_error("open", public_url(url), err, secrets)
    else:
        return fs, path, secrets
    raise fault
