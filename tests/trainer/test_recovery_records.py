"""A failure is in the run's folder, with the words of the rank that went first."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from pathlib import Path

import pytest

from trainer import history
from trainer.errors import WorkerFailed
from trainer.recovery import explain, record_failure
from trainer.run_folder import EVENTS, METRICS, RESULT, JsonLines, RunFolder


def started_folder(url: str) -> RunFolder:
    folder = RunFolder(url, "run", {})
    folder.add_event("run_started")
    folder.add_event("workers_started")
    folder.add_event("checkpoint_saved", step=2, url="step-2", size_bytes=1)
    lines = JsonLines(folder.storage, METRICS)
    now = time.time()
    common = {"epoch": 0, "time": now, "loss": 0.5}
    lines.append({"step": 2, "samples": 8, "split": "train", **common})
    lines.append({"step": 3, "samples": 12, "split": "train", **common})
    lines.append({"step": 2, "samples": 8, "split": "eval", **common})
    lines.close()
    return folder


def bug(rank: int = 0) -> WorkerFailed:
    try:
        raise ValueError("sample is broken")
    except ValueError as error:
        return explain(error, rank)


def lost(rank: int = 0) -> WorkerFailed:
    return explain(RuntimeError("[gloo] Connection closed by peer"), rank)


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_failure_is_in_the_folder_with_its_traceback(
    kind: str, tmp_path: Path
) -> None:
    url = str(tmp_path) if kind == "local" else f"memory://{secrets.token_hex(6)}"
    folder = started_folder(url)
    failure = bug()
    record_failure(folder, failure, is_recorder=True, since=time.time())
    [event] = history.failures(folder.events())
    assert (event["rank"], event["message"]) == (0, str(failure))
    written = folder.storage.read_bytes(event["file"]).decode()
    assert written == f"{failure}\n\n{failure.traceback}"
    result = folder.read_json(RESULT)
    assert result is not None
    assert (result["status"], result["step"], result["samples_seen"]) == (
        "failed",
        3,
        12,
    )
    assert result["metrics"] == {"train/loss": 0.5, "eval/loss": 0.5}
    assert result["checkpoint_url"] == "step-2"
    assert result["failures"] == [event]
    assert sum(result["ledger"].values()) == result["wall_time_s"]


def test_a_failure_before_the_run_began_is_recorded_too(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "run", {})
    record_failure(folder, bug(), is_recorder=True, since=time.time())
    assert (tmp_path / "run" / RESULT).exists()
    assert history.count(folder.events(), "failure") == 1


def test_a_rank_that_does_not_record_leaves_its_traceback_alone(
    tmp_path: Path,
) -> None:
    folder = started_folder(str(tmp_path))
    record_failure(folder, bug(rank=1), is_recorder=False, since=time.time())
    assert history.failures(folder.events()) == []
    assert folder.read_json(RESULT) is None
    [name] = folder.storage.list("failures")
    assert name.endswith("-rank0001.txt")


def test_who_lost_a_peer_records_what_the_peer_wrote_a_moment_later(
    tmp_path: Path,
) -> None:
    folder = started_folder(str(tmp_path))
    peers = bug(rank=2)

    def write_later() -> None:
        time.sleep(0.3)
        for failure in (lost(rank=1), peers):
            record_failure(folder, failure, is_recorder=False, since=time.time())

    peer = threading.Thread(target=write_later)
    peer.start()
    record_failure(folder, lost(), is_recorder=True, since=time.time() - 1)
    peer.join()
    [event] = history.failures(folder.events())
    assert (event["rank"], event["message"]) == (2, str(peers))
    assert "sample is broken" in folder.storage.read_bytes(event["file"]).decode()


def test_a_peer_that_was_killed_leaves_no_words_and_neither_does_an_older_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.recovery._PEER_WAIT_S", 0.2)
    folder = started_folder(str(tmp_path))
    record_failure(folder, bug(rank=1), is_recorder=False, since=0.0)
    record_failure(folder, lost(), is_recorder=True, since=time.time() + 2)
    [event] = history.failures(folder.events())
    assert (event["rank"], event["message"]) == (0, str(lost()))


def test_a_broken_storage_does_not_hide_the_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("a file where the folder was")
    folder = RunFolder(str(tmp_path), "run", {})
    with caplog.at_level(logging.ERROR):
        record_failure(folder, bug(), is_recorder=True, since=time.time())
    assert "could not record the failure" in caplog.text


def test_a_folder_whose_events_cannot_be_appended_does_not_hide_the_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder(str(tmp_path), "run", {})
    (tmp_path / "run" / EVENTS).mkdir(parents=True)
    with caplog.at_level(logging.ERROR):
        record_failure(folder, bug(), is_recorder=True, since=time.time())
    assert "could not record the failure" in caplog.text
    [name] = folder.storage.list("failures")
    text = folder.storage.read_bytes(f"failures/{name}").decode()
    assert "sample is broken" in text
