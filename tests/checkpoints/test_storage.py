"""One suite that every storage passes, and what `open_storage` does with URLs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from checkpoints import NotFound, Storage, StorageError, find_files, open_storage
from tests.checkpoints.conftest import Place, S3Server

BIG = 6 * 2**20


def test_written_bytes_are_read_back(storage: Storage) -> None:
    storage.write_bytes("a/b/file.bin", b"one")
    storage.write_bytes("a/b/file.bin", b"two!")
    assert storage.read_bytes("a/b/file.bin") == b"two!"
    assert storage.size("a/b/file.bin") == 4
    assert storage.child("a").child("b").read_bytes("file.bin") == b"two!"


def test_ranges_are_read_exactly(storage: Storage) -> None:
    storage.write_bytes("x", bytes(range(100)))
    assert storage.read_range("x", 10, 5) == bytes(range(10, 15))
    assert storage.read_range("x", 95, 50) == bytes(range(95, 100))
    assert storage.read_range("x", 3, 0) == b""


def test_absent_files_are_not_found(storage: Storage) -> None:
    for read in (
        lambda: storage.read_bytes("no"),
        lambda: storage.read_range("no", 0, 1),
        lambda: storage.size("no"),
    ):
        with pytest.raises(NotFound, match="no"):
            read()
    assert not storage.exists("no")


def test_exclusive_creation_has_one_winner(storage: Storage) -> None:
    storage.create_exclusive("step/manifest", b"first")
    with pytest.raises(FileExistsError):
        storage.create_exclusive("step/manifest", b"second")
    assert storage.read_bytes("step/manifest") == b"first"


def test_listing_names_direct_children_only(storage: Storage) -> None:
    assert storage.list() == []
    assert storage.list("nowhere") == []
    for path in ("b/x", "b/deep/y", "a", "c/z"):
        storage.write_bytes(path, b".")
    assert storage.list() == ["a", "b", "c"]
    assert storage.list("b") == ["deep", "x"]
    assert storage.exists("b")


def test_a_client_sees_what_another_wrote_meanwhile(place: Place) -> None:
    storage, other = place.open(), place.open()
    other.write_bytes("a", b"1")
    assert (storage.list(), storage.size("a")) == (["a"], 1)
    other.write_bytes("sub/b", b".")
    other.write_bytes("a", b"22")
    assert (storage.list(), storage.size("a")) == (["a", "sub"], 2)
    other.delete("a")
    assert (storage.list(), storage.exists("a")) == (["sub"], False)


def test_files_folders_and_nothing_can_be_deleted(storage: Storage) -> None:
    for path in ("dir/x", "dir/deep/y", "file"):
        storage.write_bytes(path, b".")
    storage.delete("file")
    storage.delete("dir")
    storage.delete("absent")
    storage.delete("absent/deeper")
    assert storage.list() == []


def test_a_stream_is_whole_when_it_is_closed(storage: Storage) -> None:
    with storage.open_write("dir/stream") as sink:
        sink.write(b"head")
        for _ in range(10):
            sink.write(memoryview(bytes(BIG)))
    assert storage.size("dir/stream") == 4 + 10 * BIG
    assert storage.read_range("dir/stream", 0, 6) == b"head\0\0"


@pytest.mark.parametrize("num_bytes", [0, 10, 60 * 2**20])
def test_a_stream_that_fails_leaves_nothing(storage: Storage, num_bytes: int) -> None:
    def write_and_fail() -> None:
        with storage.open_write("dir/stream") as sink:
            sink.write(bytes(num_bytes))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert not storage.exists("dir/stream")
    assert storage.list("dir") == []


def test_an_empty_stream_is_an_empty_file(storage: Storage) -> None:
    with storage.open_write("empty"):
        pass
    assert storage.size("empty") == 0


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_of_many_exclusive_writers_at_once_one_wins(
    kind: str, tmp_path: Path, s3_server: S3Server
) -> None:
    storage = open_storage(tmp_path)
    if kind == "s3":
        url = f"s3://{s3_server.new_bucket()}/run"
        storage = open_storage(url, s3_server.options)

    def create(number: int) -> bool:
        try:
            storage.create_exclusive("manifest", str(number).encode())
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(create, range(16)))
    assert won.count(True) == 1
    assert storage.read_bytes("manifest") == str(won.index(True)).encode()


def test_local_storage_is_told_by_its_folder(
    workspace: Path, s3_server: S3Server
) -> None:
    assert open_storage("runs/a").local_dir == workspace / "runs" / "a"
    assert open_storage("runs/a").url == str(workspace / "runs" / "a")
    assert open_storage("s3://b/run", s3_server.options).local_dir is None
    assert open_storage("s3://b/run/", s3_server.options).child("x").url == (
        "s3://b/run/x"
    )


def test_opening_a_storage_creates_nothing(tmp_path: Path) -> None:
    open_storage(tmp_path / "run").child("deep")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scheme_is_refused_in_words() -> None:
    with pytest.raises(StorageError, match=r"s4://bucket/run: .*s4"):
        open_storage("s4://bucket/run")


def test_a_missing_client_names_what_to_install() -> None:
    script = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from checkpoints import StorageError, open_storage\n"
        "try: open_storage('s3://bucket/run')\n"
        "except StorageError as err: print(err)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "pip install 'perennial[s3]'" in done.stdout


def test_fsspec_is_imported_only_for_urls_that_need_it() -> None:
    script = (
        "import sys, checkpoints\n"
        "checkpoints.open_storage('runs').exists('x')\n"
        "assert not {'fsspec', 's3fs', 'botocore'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_found_files_are_sorted_and_no_folders(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "deep/c.txt", "d.bin"):
        open_storage(tmp_path).write_bytes(name, b".")
    (tmp_path / "folder.txt").mkdir()
    assert find_files(tmp_path / "*.txt") == [
        str(tmp_path / "a.txt"),
        str(tmp_path / "b.txt"),
    ]
    assert len(find_files(f"file://{tmp_path}/**/*.txt")) == 3
    assert find_files(tmp_path / "none*") == []


def test_found_files_of_a_url_are_urls_that_open(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    storage = open_storage(f"s3://{bucket}", s3_server.options)
    for name in ("text/b.txt", "text/a.txt", "text/deep/c.txt"):
        storage.write_bytes(name, name.encode())
    found = find_files(f"s3://{bucket}/text/*.txt", s3_server.options)
    assert found == [f"s3://{bucket}/text/a.txt", f"s3://{bucket}/text/b.txt"]
    opened = open_storage(found[0], s3_server.options)
    assert opened.read_bytes("") == b"text/a.txt"
