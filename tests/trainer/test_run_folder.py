"""A run's folder keeps whole lines through kills, and has one writer at a time."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from checkpoints import open_storage
from trainer.errors import RunLocked
from trainer.run_folder import EventLog, JsonLines, RunFolder, read_json_lines

REPOSITORY = Path(__file__).parents[2]

# Holds the lock of a run until it is killed; then waits for its standard input.
HOLD = """
import sys
from trainer.run_folder import RunFolder
folder = RunFolder(sys.argv[1], "run", {})
folder.lock()
print(0, flush=True)
sys.stdin.read()
"""

# Does the same after a loader-like child came and went, and beside one that stays.
FORK = """
import os, sys
from trainer.run_folder import RunFolder
folder = RunFolder(sys.argv[1], "run", {})
folder.lock()
first = os.fork()
if first == 0:
    os._exit(0)
os.waitpid(first, 0)
second = os.fork()
if second == 0:
    sys.stdin.read()
    os._exit(0)
print(second, flush=True)
sys.stdin.read()
"""


@contextmanager
def child(script: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Runs a script that prints a number when it stands where the test wants it."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def steps(folder: Path | str, name: str = "a.jsonl") -> list[int]:
    return [record["step"] for record in read_json_lines(open_storage(folder), name)]


def test_lines_can_be_read_as_soon_as_they_are_appended(tmp_path: Path) -> None:
    lines = JsonLines(open_storage(tmp_path), "a.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    lines.append({"step": 1, "loss": 0.5})
    assert (tmp_path / "a.jsonl").read_text() == '{"step": 1, "loss": 0.5}\n'
    lines.append({"step": 2})
    assert steps(tmp_path) == [1, 2]
    lines.close()
    assert steps(tmp_path) == [1, 2]


def test_a_line_torn_by_a_kill_is_not_read_and_not_continued(tmp_path: Path) -> None:
    torn = b'{"step": 1}\n{"step": 2}\n{"step": 3, "lo'
    (tmp_path / "a.jsonl").write_bytes(torn)
    assert steps(tmp_path) == [1, 2]
    lines = JsonLines(open_storage(tmp_path), "a.jsonl")
    lines.append({"step": 3})
    lines.close()
    written = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(text)["step"] for text in written] == [1, 2, 3]


def test_lines_that_are_not_kept_are_gone_at_once(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    first = JsonLines(storage, "a.jsonl")
    for step in range(1, 6):
        first.append({"step": step})
    first.close()
    again = JsonLines(storage, "a.jsonl", keep=lambda line: line["step"] <= 3)
    assert steps(tmp_path) == [1, 2, 3]
    again.append({"step": 4})
    again.close()
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_an_object_store_has_the_lines_when_they_are_flushed() -> None:
    url = f"memory://{secrets.token_hex(6)}"
    lines = JsonLines(open_storage(url), "a.jsonl")
    lines.append({"step": 1})
    lines.append({"step": 2})
    assert steps(url) == []
    lines.flush()
    assert steps(url) == [1, 2]
    lines.append({"step": 3})
    lines.close()
    assert steps(url) == [1, 2, 3]


def test_an_object_store_has_the_lines_after_a_while_without_a_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.run_folder._UPLOAD_INTERVAL_S", 0.0)
    url = f"memory://{secrets.token_hex(6)}"
    lines = JsonLines(open_storage(url), "a.jsonl")
    lines.append({"step": 1})
    assert steps(url) == [1]
    lines.close()


def test_a_resume_on_an_object_store_drops_lines_and_goes_on() -> None:
    url = f"memory://{secrets.token_hex(6)}"
    first = JsonLines(open_storage(url), "a.jsonl")
    for step in (1, 2, 3):
        first.append({"step": step})
    first.close()
    again = JsonLines(open_storage(url), "a.jsonl", keep=lambda line: line["step"] < 3)
    assert steps(url) == [1, 2]
    again.append({"step": 3})
    again.close()
    assert steps(url) == [1, 2, 3]


def test_an_absent_file_has_no_lines_and_no_content(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "run", {})
    assert folder.events() == []
    assert folder.read_json("result.json") is None
    assert folder.read_yaml("config.yaml") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_files_are_read_back_as_they_were_written(kind: str, tmp_path: Path) -> None:
    url = str(tmp_path) if kind == "local" else f"memory://{secrets.token_hex(6)}"
    folder = RunFolder(url, "run", {})
    content = {"z": [1, None], "a": {"lr": 1e-5, "text": "ä", "is_on": True}}
    folder.write_json("a.json", content)
    folder.write_yaml("a.yaml", content)
    folder.write_text("failures/a.txt", "one\ntwo ä")
    assert folder.read_json("a.json") == content
    assert folder.read_yaml("a.yaml") == content
    assert list(folder.read_yaml("a.yaml")) == ["z", "a"]
    assert folder.storage.read_bytes("failures/a.txt").decode() == "one\ntwo ä"
    assert folder.storage.list() == ["a.json", "a.yaml", "failures"]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_events_are_durable_when_they_have_been_added(
    kind: str, tmp_path: Path
) -> None:
    url = str(tmp_path) if kind == "local" else f"memory://{secrets.token_hex(6)}"
    folder = RunFolder(url, "run", {})
    folder.add_event("run_started", overrides=["seed=1"])
    log = EventLog(folder)
    log.add("workers_started", num_workers=2)
    first, second = RunFolder(url, "run", {}).events()
    log.close()
    assert first == {
        "time": first["time"],
        "event": "run_started",
        "overrides": ["seed=1"],
    }
    assert (second["event"], second["num_workers"]) == ("workers_started", 2)
    assert second["time"] >= first["time"]


def test_a_second_process_is_refused_until_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(str(tmp_path), "run", {})
    with child(HOLD, str(tmp_path)) as (holder, _):
        with monkeypatch.context() as patch:
            patch.setattr("trainer.run_folder._LOCK_WAIT_S", 0.3)
            with pytest.raises(RunLocked) as caught:
                folder.lock()
        message = str(caught.value)
        assert f"is being trained by process {holder.pid} on " in message
        assert str(tmp_path / "run") in message
        assert "another name=" in message
        assert holder.stdin is not None
        holder.stdin.close()  # it needs a moment to leave: this waits for it
        folder.lock()
    assert f"process {os.getpid()} " in (tmp_path / "run" / "run.lock").read_text()
    folder.unlock()


def test_a_run_belongs_to_the_process_that_locked_it_not_to_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.run_folder._LOCK_WAIT_S", 0.3)
    folder = RunFolder(str(tmp_path), "run", {})
    with child(FORK, str(tmp_path)) as (holder, orphan):
        with pytest.raises(RunLocked):  # a child's end has not given it back
            folder.lock()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        folder.lock()
        os.kill(orphan, 0)  # it lived while the lock was free
        folder.unlock()


def test_an_object_store_has_no_lock() -> None:
    url = f"memory://{secrets.token_hex(6)}"
    folder = RunFolder(url, "run", {})
    folder.lock()
    assert folder.storage.list() == []
    folder.unlock()
