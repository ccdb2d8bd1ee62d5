"""Turns a glob of text files into one memory-mappable file of bytes, once.

Owns the cache folder: what is in it, how several processes share it, and what makes a
prepared corpus whole. Must never know samples, models or tensors. Other file systems
are reached through `checkpoints`' storage only.

    <cache_dir>/corpora/<key>/corpus.bin    the files' bytes, one after the other
                              corpus.json   sha256, sizes, format version
    <cache_dir>/corpora/.<key>.<attempt>/   being written; becomes the above by a rename
    <cache_dir>/corpora/<key>.lock          held while one process prepares
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import sysconfig
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from checkpoints import Storage, find_files, open_storage

FORMAT_VERSION = 1
DEFAULT_CACHE_DIR = "~/.cache/perennial"

_CHUNK_BYTES = 16 * 2**20
_DATA, _FACTS = "corpus.bin", "corpus.json"
_NOT_SOURCE = {"test", "tests", "idle_test", "site-packages", "dist-packages"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A prepared corpus: where its bytes are and what they are."""

    path: str = ""  # the memory-mappable file; known once it is in its place
    sha256: str  # of the whole content
    num_files: int
    num_bytes: int
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """One text file; `storage` is None where the file is local."""

    url: str
    path: str  # in the storage, or on the local disk
    num_bytes: int
    mtime_ns: int | None  # object stores have none that can be trusted
    storage: Storage | None = None

    def read(self) -> Iterator[bytes]:
        if self.storage is None:
            with open(self.path, "rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
            return
        for start in range(0, self.num_bytes, _CHUNK_BYTES):
            size = min(_CHUNK_BYTES, self.num_bytes - start)
            yield self.storage.read_range(self.path, start, size)


def prepare_corpus(
    files: str | None = None,
    *,
    files_options: Mapping[str, object] | None = None,
    cache_dir: str | None = None,
) -> Corpus:
    """Returns the corpus of the files that match, prepared now or taken from cache.

    Any number of processes may call this at once. A corpus is prepared again when the
    list of files, a size or (of local files) a modification time has changed.

    Args:
        files: a glob, local or an fsspec URL; null: the running Python's standard
            library without its tests.
        files_options: fsspec options, for example credentials; never written down.
        cache_dir: folder of prepared corpora; null: `~/.cache/perennial`.

    Raises:
        ValueError: nothing matches, or the cache folder cannot be written.
        OSError: a local file could not be read, or one changed while it was read.
        checkpoints.StorageError: another file system failed.
    """
    options = dict(files_options or {})
    sources = _standard_library() if files is None else _matching(files, options)
    key = _key(sources, options)
    root = Path(cache_dir or DEFAULT_CACHE_DIR).expanduser().absolute() / "corpora"
    corpus = _cached(root / key)
    if corpus is not None:
        return corpus
    with _locked(root, key) as is_alone:
        corpus = _cached(root / key)
        if corpus is None:
            if is_alone:
                _remove_leftovers(root, key)
            corpus = _prepare(sources, root, key)
    return corpus


def _standard_library() -> list[_Source]:
    root = Path(sysconfig.get_path("stdlib"))
    paths: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _NOT_SOURCE]
        paths += [Path(folder, name) for name in names if name.endswith(".py")]
    paths = [
        path
        for path in paths
        if _is_library_source(path.relative_to(root)) and path.is_file()
    ]
    if not paths:
        raise ValueError(
            f"files=null: this Python keeps no source in {root}; "
            "set task.files to a glob of text files"
        )
    paths.sort(key=lambda path: path.relative_to(root).as_posix())
    return [_local(str(path)) for path in paths]


def _is_library_source(relative: Path) -> bool:
    # These describe the machine on which Python was built, so they differ where the
    # library is the same: build variables, and python-config in config-3.*.
    return not relative.parts[0].startswith(("_sysconfigdata", "config-"))


def _matching(files: str, options: dict[str, object]) -> list[_Source]:
    urls = find_files(files, options)
    if not urls:
        raise ValueError(
            f"files={files}: matches no file; a glob such as data/**/*.txt or "
            "s3://bucket/texts/*.txt must match at least one; set task.files"
        )
    if Path(urls[0]).is_absolute():
        return [_local(path) for path in urls]
    stores: dict[str, Storage] = {}
    for root in {_root_and_path(url)[0] for url in urls}:
        stores[root] = open_storage(root, options)

    def look_up(url: str) -> _Source:
        root, path = _root_and_path(url)
        size = stores[root].size(path)
        return _Source(
            url=url, path=path, num_bytes=size, mtime_ns=None, storage=stores[root]
        )

    # Every start asks for every size, and each answer may be 50 ms away.
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(look_up, urls))


def _root_and_path(url: str) -> tuple[str, str]:
    """Cuts a URL after its bucket or host."""
    scheme, _, rest = url.partition("://")
    root, _, path = rest.partition("/")
    return f"{scheme}://{root}", path


def _local(path: str) -> _Source:
    facts = os.stat(path)
    size, mtime_ns = facts.st_size, facts.st_mtime_ns
    return _Source(url=path, path=path, num_bytes=size, mtime_ns=mtime_ns)


def _key(sources: list[_Source], options: dict[str, object]) -> str:
    client = options.get("client_kwargs")
    endpoints = [
        str(place["endpoint_url"])
        for place in (options, client)
        if isinstance(place, Mapping) and "endpoint_url" in place
    ]  # two stores may hold different texts under one URL
    listing = [[source.url, source.num_bytes, source.mtime_ns] for source in sources]
    text = json.dumps([FORMAT_VERSION, endpoints, listing])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _cached(folder: Path) -> Corpus | None:
    """Returns the corpus in `folder`, or None where it is absent or not whole."""
    try:
        corpus = Corpus(**json.loads((folder / _FACTS).read_bytes()))
        num_bytes = (folder / _DATA).stat().st_size
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    if corpus.format_version != FORMAT_VERSION or corpus.num_bytes != num_bytes:
        return None
    return replace(corpus, path=str(folder / _DATA))


@contextmanager
def _locked(root: Path, key: str) -> Iterator[bool]:
    """Holds the key's lock; yields False on a file system that has no locks."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as err:
        raise ValueError(
            f"cache_dir={root.parent}: must be a folder that can be written ({err}); "
            "set task.cache_dir to one"
        ) from err
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)  # lets the lock go, as the end of the process does


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("waiting for the process that prepares the corpus")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False  # several may prepare at once; the rename lets one win
    return True


def _remove_leftovers(root: Path, key: str) -> None:
    for folder in (root / key, *root.glob(f".{key}.*")):
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(sources: list[_Source], root: Path, key: str) -> Corpus:
    attempt = root / f".{key}.{uuid.uuid4().hex}"
    attempt.mkdir()
    try:
        corpus = _write(sources, attempt)
        _sync(attempt)
        try:
            attempt.rename(root / key)
        except OSError:  # the folder is there: another process was faster
            if (faster := _cached(root / key)) is None:
                raise
            return faster
        _sync(root)
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    return replace(corpus, path=str(root / key / _DATA))


def _write(sources: list[_Source], folder: Path) -> Corpus:
    content = hashlib.sha256()
    with open(folder / _DATA, "xb") as file:
        for source in sources:
            num_bytes = 0
            for chunk in source.read():
                content.update(chunk)
                num_bytes += file.write(chunk)
            if num_bytes != source.num_bytes:
                raise OSError(
                    f"{source.url}: gave {num_bytes} bytes, listed with "
                    f"{source.num_bytes}: must not change while the corpus is "
                    "prepared; start again when it is complete"
                )
        _sync_file(file)
    corpus = Corpus(
        sha256=content.hexdigest(),
        num_files=len(sources),
        num_bytes=sum(source.num_bytes for source in sources),
    )
    with open(folder / _FACTS, "xb") as file:
        file.write(json.dumps(asdict(corpus)).encode())
        _sync_file(file)
    return corpus


def _sync_file(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
