"""Preparing a corpus: deterministic, cached, shared, and whole or not there at all."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sysconfig
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import fsspec
import pytest

from trainer.tasks import corpus_file
from trainer.tasks.corpus_file import Corpus, prepare_corpus

_SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.joinpath("deeper").mkdir(parents=True)
    folder.joinpath("b.txt").write_bytes(b"second\n")
    folder.joinpath("a.txt").write_bytes(b"first\n")
    folder.joinpath("deeper", "c.txt").write_bytes(b"")
    folder.joinpath("deeper", "d.txt").write_bytes("dritte, äöü\n".encode())
    return folder


def _prepare(texts: Path, **arguments: str) -> Corpus:
    arguments.setdefault("cache_dir", str(texts.parent / "cache"))
    return prepare_corpus(f"{texts}/**/*.txt", **arguments)  # type: ignore[arg-type]  # strings only


def _content(corpus: Corpus) -> bytes:
    return Path(corpus.path).read_bytes()


def _prepared(cache_dir: Path) -> list[str]:
    names = os.listdir(cache_dir / "corpora")
    return [name for name in names if not name.endswith(".lock")]


def test_the_corpus_is_the_files_in_order(texts: Path) -> None:
    corpus = _prepare(texts)

    assert _content(corpus) == "first\nsecond\ndritte, äöü\n".encode()
    assert corpus.sha256 == hashlib.sha256(_content(corpus)).hexdigest()
    assert (corpus.num_files, corpus.num_bytes) == (4, len(_content(corpus)))


def test_without_files_it_is_the_library_without_its_tests(tmp_path: Path) -> None:
    corpus = prepare_corpus(cache_dir=str(tmp_path))
    library = Path(sysconfig.get_path("stdlib"))
    content = _content(corpus)

    assert library.joinpath("argparse.py").read_bytes() in content
    assert library.joinpath("json", "decoder.py").read_bytes() in content
    assert b"class TestArgumentParser" not in content
    assert content.startswith((library / "__future__.py").read_bytes())
    assert prepare_corpus(cache_dir=str(tmp_path / "again")).sha256 == corpus.sha256


def test_a_prepared_corpus_is_taken_from_the_cache(texts: Path) -> None:
    first = _prepare(texts)
    written = os.stat(first.path)

    assert _prepare(texts) == first
    assert os.stat(first.path) == written


def test_a_changed_file_makes_a_new_corpus(texts: Path) -> None:
    first = _prepare(texts)
    texts.joinpath("a.txt").write_bytes(b"FIRST\n")  # the same size
    second = _prepare(texts)

    assert _content(second).startswith(b"FIRST")
    assert _content(first).startswith(b"first")


@pytest.mark.parametrize("damaged", ["corpus.bin", "corpus.json"])
def test_a_torn_cache_is_prepared_again(texts: Path, damaged: str) -> None:
    first = _prepare(texts)
    content = _content(first)
    file = Path(first.path).with_name(damaged)
    file.write_bytes(file.read_bytes()[:-5])

    assert _prepare(texts) == first
    assert _content(first) == content


def test_other_file_systems_give_the_same_content(texts: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.txt", "b.txt", "deeper/c.txt", "deeper/d.txt"):
        memory.pipe_file(f"/corpus/{name}", texts.joinpath(name).read_bytes())
    try:
        cache_dir = str(texts.parent / "other")
        corpus = prepare_corpus("memory://corpus/**/*.txt", cache_dir=cache_dir)
    finally:
        memory.rm("/corpus", recursive=True)

    assert corpus.sha256 == _prepare(texts).sha256


def _prepare_together(barrier: Barrier, texts: str, answers: str) -> None:
    barrier.wait(60)
    path = _prepare(Path(texts)).path
    Path(answers, str(os.getpid())).write_text(f"{path} {os.stat(path).st_ino}")


def test_processes_that_start_at_once_share_one_preparation(
    texts: Path, tmp_path: Path
) -> None:
    texts.joinpath("long.txt").write_bytes(bytes(2**24))
    answers = tmp_path / "answers"
    answers.mkdir()
    barrier = _SPAWN.Barrier(4)
    arguments = (barrier, str(texts), str(answers))
    ranks = [_SPAWN.Process(target=_prepare_together, args=arguments) for _ in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)

    assert [rank.exitcode for rank in ranks] == [0] * 4
    assert len({file.read_text() for file in answers.iterdir()}) == 1
    assert len(_prepared(tmp_path / "cache")) == 1


def test_a_process_killed_in_the_middle_leaves_nothing_that_counts(
    texts: Path, tmp_path: Path
) -> None:
    with texts.joinpath("long.txt").open("wb") as file:
        file.truncate(2**27)  # sparse, and long enough to be caught while it is read
    process = _SPAWN.Process(target=_prepare, args=(texts,))
    process.start()
    deadline = time.monotonic() + 60
    while not any(
        file.stat().st_size for file in tmp_path.glob("cache/corpora/.*/corpus.bin")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    (left,) = _prepared(tmp_path / "cache")
    assert left.startswith(".")

    corpus = _prepare(texts)

    assert Path(corpus.path).stat().st_size == corpus.num_bytes
    assert corpus.num_bytes > 2**27
    assert not any(name.startswith(".") for name in _prepared(tmp_path / "cache"))


def test_without_locks_the_second_to_finish_takes_what_the_first_made(
    texts: Path, tmp_path: Path
) -> None:
    sources = corpus_file._matching(f"{texts}/*.txt", {})
    first, second = (corpus_file._prepare(sources, tmp_path, "key") for _ in range(2))

    assert first == second
    assert [path.name for path in tmp_path.glob("*key*")] == ["key"]


def test_two_stores_with_equal_urls_are_two_corpora(texts: Path) -> None:
    sources = corpus_file._matching(f"{texts}/*.txt", {})
    options: list[dict[str, object]] = [
        {},
        {"endpoint_url": "http://a"},
        {"client_kwargs": {"endpoint_url": 1}},
    ]

    assert len({corpus_file._key(sources, option) for option in options}) == 3


def test_no_credential_is_written_down(texts: Path, tmp_path: Path) -> None:
    prepare_corpus(
        f"{texts}/*.txt",
        files_options={"secret": "hunter2"},
        cache_dir=str(tmp_path / "cache"),
    )
    for file in tmp_path.joinpath("cache").rglob("*.*"):
        assert "hunter2" not in str(file)
        assert file.is_dir() or b"hunter2" not in file.read_bytes()


def test_a_glob_without_a_match_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\*\.rst: matches no file; .*task\.files"):
        prepare_corpus(f"{tmp_path}/*.rst", cache_dir=str(tmp_path))


def test_a_cache_folder_that_cannot_be_made_says_so(texts: Path) -> None:
    in_the_way = str(texts / "a.txt")
    with pytest.raises(ValueError, match=r"can be written \(.*set task\.cache_dir"):
        _prepare(texts, cache_dir=in_the_way)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    # Files of /proc are listed with size 0 and then give bytes.
    with pytest.raises(OSError, match=r"listed with 0: must not change .*start again"):
        prepare_corpus("/proc/self/status", cache_dir=str(tmp_path))
    assert _prepared(tmp_path) == []
