"""The same words on Ray: workers that die or fail, Ctrl-C, jobs, use as a library."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ray

from tests.end_to_end.runs import (
    Launcher,
    Run,
    command,
    read_lines,
    read_result,
    run_to_end,
)
from trainer import ResumeError, Status, WorkerFailed, load_config, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHORT = ("experiment=digits", "duration.max_epochs=null", "duration.max_steps=30")
LONG = (
    "experiment=digits",
    "name=run",
    "duration.max_epochs=5000",
    "evaluation.every_steps=null",
    "checkpoint.metric=null",
    "checkpoint.every_steps=50",
)
MY_TASK = ("task._target_=my_task.Line",)
RAY_BIN = str(Path(sys.executable).with_name("ray"))


@pytest.fixture(autouse=True)
def _user_code(workspace: Path) -> None:
    shutil.copy(Path(__file__).with_name("my_task.py"), workspace)


def _ray_workers(run: Run) -> list[psutil.Process]:
    below = psutil.Process(run.process.pid).children(recursive=True)
    return [p for p in below if "RayTrainWorker" in " ".join(p.cmdline())]


def test_two_workers_end_with_the_weights_of_two_torchrun_ranks(
    workspace: Path,
) -> None:
    log = workspace / "log"
    for launcher in (Launcher.TORCHRUN, Launcher.RAY):
        line = command(launcher, [*SHORT, f"name={launcher}"])
        assert run_to_end(line, log) == 0, log.read_text()
    digests = {
        read_result(workspace / "runs" / launcher)["model_digest"]
        for launcher in ("torchrun", "ray")
    }
    assert len(digests) == 1


def test_a_killed_worker_is_replaced_and_ctrl_c_saves(workspace: Path) -> None:
    run = Run(command(Launcher.RAY, LONG), workspace / "log")
    events = workspace / "runs" / "run" / "events.jsonl"
    run.wait_for(events, '"step": 50,')
    _ray_workers(run)[1].kill()
    run.wait_for(events, '"event": "restored"')
    run.wait_for(workspace / "log", "workers were started again")
    run.signal_all(signal.SIGINT)
    assert run.wait() == 75, run.output
    result = read_result(workspace / "runs" / "run")
    assert result["status"] == "preempted"
    assert result["num_restarts"] == 1
    [restored] = [e for e in read_lines(events) if e["event"] == "restored"]
    assert restored["step"] >= 50
    saved = [e["step"] for e in read_lines(events) if e["event"] == "checkpoint_saved"]
    assert saved[-1] == result["step"]


def test_a_failing_task_is_told_once_and_not_tried_again(workspace: Path) -> None:
    log = workspace / "log"
    words = [*MY_TASK, "name=bug", "task.fail_at=2", "task.fail_rank=1"]
    assert run_to_end(command(Launcher.RAY, words), log) == 1
    [message] = [m for m in log.read_text().splitlines() if m.startswith("failed: ")]
    assert "rank 1: KeyError: 'boom' at " in message
    assert "my_task.py:" in message
    folder = workspace / "runs" / "bug"
    events = [e["event"] for e in read_lines(folder / "events.jsonl")]
    assert events.count("workers_started") == 1
    assert read_result(folder)["failures"][0]["rank"] == 1


def test_a_fault_that_only_the_workers_see_exits_2(workspace: Path) -> None:
    log = workspace / "log"
    words = [*MY_TASK, "name=bad", "checkpoint.metric=eval/acuracy"]
    assert run_to_end(command(Launcher.RAY, words), log) == 2, log.read_text()
    assert "checkpoint.metric=eval/loss" in log.read_text()


def test_a_library_user_keeps_their_ray_and_handlers(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(workspace)
    own_handler = signal.getsignal(signal.SIGTERM)
    ray.init(address="local", num_cpus=2, include_dashboard=True)
    try:
        handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        environment = dict(os.environ)
        words = [*SHORT, "name=run", "scaling=ray_2", "logging=quiet"]
        result = train(load_config(words))
        assert result.status is Status.COMPLETED
        assert ray.is_initialized()
        assert dict(os.environ) == environment
        for number, handler in handlers.items():
            assert signal.getsignal(number) is handler
        assert train(load_config(words)) == result
        with pytest.raises(ResumeError, match=r"optimizer\.lr"):
            train(load_config([*words, "optimizer.lr=1.0"]))
        with pytest.raises(WorkerFailed, match="boom"):
            train(load_config([*MY_TASK, "task.fail_at=1", "scaling=ray_2"]))
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, own_handler)  # Ray leaves its own


def test_a_submitted_job_runs_the_same_words(workspace: Path) -> None:
    port = _free_port()
    ports = [f"--port={_free_port()}", f"--dashboard-port={port}"]
    head = subprocess.Popen(
        [RAY_BIN, "start", "--head", "--block", "--num-cpus=2", *ports],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        words = [*SHORT, "name=job", "scaling=ray_2", f"storage_url={workspace}/runs"]
        address = f"http://127.0.0.1:{port}"
        submit = [RAY_BIN, "job", "submit", f"--address={address}"]
        line = [*submit, "--", *command(Launcher.HERE, words)]
        for _ in range(20):  # until the job server answers
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if "Failed to connect" not in done.stdout + done.stderr:
                break
        assert done.returncode == 0, done.stdout + done.stderr
        result = read_result(workspace / "runs" / "job")
        assert result["status"] == "completed"
    finally:
        below = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        _, alive = psutil.wait_procs([psutil.Process(head.pid), *below], timeout=20)
        for process in alive:
            process.kill()
        head.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
