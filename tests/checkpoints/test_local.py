from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from checkpoints import StorageError, open_storage


def test_a_file_in_the_place_of_a_folder_is_no_lost_race(tmp_path: Path) -> None:
    (tmp_path / "step").write_bytes(b"")
    with pytest.raises(StorageError, match="a file is in the way"):
        open_storage(tmp_path).create_exclusive("step/manifest.json", b"x")


def test_writing_leaves_no_temporary_file(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.write_bytes("a", b"1")
    storage.create_exclusive("b", b"2")
    with pytest.raises(FileExistsError):
        storage.create_exclusive("b", b"3")
    assert storage.list() == ["a", "b"]


def test_a_reader_never_sees_a_part_of_a_replaced_file(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.write_bytes("state", b"old")
    with storage.open_write("state") as sink:
        sink.write(b"new and longer")
        assert storage.read_bytes("state") == b"old"
    assert storage.read_bytes("state") == b"new and longer"


def test_a_file_system_without_hard_links_still_has_one_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    storage = open_storage(tmp_path)
    storage.create_exclusive("manifest", b"first")
    with pytest.raises(FileExistsError):
        storage.create_exclusive("manifest", b"second")
    assert storage.read_bytes("manifest") == b"first"
    assert storage.list() == ["manifest"]


def test_the_callers_own_error_passes_untranslated(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)

    def fail() -> None:
        with storage.open_write("x"):
            raise OSError(errno.EIO, "the caller's own")

    with pytest.raises(OSError, match="the caller's own"):
        fail()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_a_forbidden_folder_is_refused_in_words(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="must allow this"):
        open_storage(tmp_path).write_bytes("x", b"1")
