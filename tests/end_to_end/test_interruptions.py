"""Ctrl-C and SIGTERM save at a step boundary and exit 75; failures print one line."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.runs import (
    Launcher,
    Run,
    command,
    read_lines,
    read_result,
    run_to_end,
)

MY_TASK = ("task._target_=my_task.Line",)
# Long enough to be interrupted anywhere; nothing is saved before.
LONG = (
    "experiment=digits",
    "duration.max_epochs=5000",
    "checkpoint.every_steps=null",
    "evaluation.every_steps=null",
    "checkpoint.metric=null",
)


@pytest.fixture(autouse=True)
def _user_code(workspace: Path) -> None:
    """Puts a user's module into the working folder."""
    shutil.copy(Path(__file__).with_name("my_task.py"), workspace)


def _start_training(
    launcher: Launcher, workspace: Path, *words: str, name: str = "run"
) -> Run:
    line = command(launcher, [*LONG, f"name={name}", *words])
    run = Run(line, workspace / "log")
    run.wait_for(workspace / "runs" / name / "metrics.jsonl", '"step": 20,')
    return run


def _saved_step(workspace: Path) -> int:
    [saved] = [
        event["step"]
        for event in read_lines(workspace / "runs" / "run" / "events.jsonl")
        if event["event"] == "checkpoint_saved"
    ]
    return int(saved)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_exits_75(number: signal.Signals, workspace: Path) -> None:
    run = _start_training(Launcher.HERE, workspace, "loader.num_workers=1")
    if number is signal.SIGINT:
        run.signal_all(number)  # a terminal's Ctrl-C reaches the loader processes too
    else:
        run.process.terminate()
    assert run.wait() == 75, run.output
    result = read_result(workspace / "runs" / "run")
    assert result["status"] == "preempted"
    assert result["step"] == _saved_step(workspace) >= 20
    assert result["num_preemptions"] == 1
    assert "Traceback" not in run.output


def test_a_second_interrupt_stops_at_once(workspace: Path) -> None:
    words = [*MY_TASK, "name=run", "task.step_s=60"]
    run = Run(command(Launcher.HERE, words), workspace / "log")
    run.wait_for(workspace / "log", "step 0/")
    run.signal_all(signal.SIGINT)
    time.sleep(1.0)
    assert run.process.poll() is None
    run.signal_all(signal.SIGINT)
    assert run.wait(timeout_s=10) == 75
    assert "stopped at once" in run.output


@pytest.mark.slow
def test_an_interrupt_of_torchrun_saves_one_step_on_all_ranks(workspace: Path) -> None:
    run = _start_training(Launcher.TORCHRUN, workspace)
    run.signal_all(signal.SIGINT)
    run.wait()  # torchrun's own exit code, whatever the ranks return
    result = read_result(workspace / "runs" / "run")
    assert result["status"] == "preempted", run.output
    assert result["step"] == _saved_step(workspace)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_signal_to_one_rank_stops_all_at_one_step(workspace: Path) -> None:
    for attempt in range(3):
        name = f"run{attempt}"
        run = _start_training(Launcher.TORCHRUN, workspace, name=name)
        children = psutil.Process(run.process.pid).children()
        ranks = [child for child in children if "trainer" in child.cmdline()]
        ranks[attempt % 2].terminate()
        run.wait()
        result = read_result(workspace / "runs" / name)
        assert result["status"] == "preempted", run.output


def test_a_failing_task_names_rank_line_and_remedy(workspace: Path) -> None:
    log = workspace / "log"
    line = command(Launcher.HERE, [*MY_TASK, "name=bug", "task.fail_at=3"])
    assert run_to_end(line, log) == 1
    [message] = [m for m in log.read_text().splitlines() if m.startswith("failed: ")]
    assert "rank 0: KeyError: 'boom' at " in message
    assert "/my_task.py:" in message
    assert "Traceback" not in log.read_text()
    folder = workspace / "runs" / "bug"
    [failure] = read_result(folder)["failures"]
    assert "Traceback" in (folder / failure["file"]).read_text()
    assert read_result(folder)["status"] == "failed"


@pytest.mark.slow
def test_torchrun_tells_of_the_rank_that_failed_first(workspace: Path) -> None:
    log = workspace / "log"
    words = [*MY_TASK, "name=bug", "task.fail_at=2", "task.fail_rank=1"]
    assert run_to_end(command(Launcher.TORCHRUN, words), log) == 1
    assert "failed: rank 1: KeyError: 'boom' at " in log.read_text()
    [failure] = read_result(workspace / "runs" / "bug")["failures"]
    assert failure["rank"] == 1
    assert "KeyError" in failure["message"]


@pytest.mark.slow
def test_two_processes_do_not_train_one_run(workspace: Path) -> None:
    first = _start_training(Launcher.HERE, workspace)
    line = command(Launcher.HERE, [*LONG, "name=run"])
    second = run_to_end(line, workspace / "second")
    first.kill()
    assert second == 1
    assert f"process {first.process.pid} on " in (workspace / "second").read_text()


@pytest.mark.slow
def test_changed_data_is_refused(workspace: Path) -> None:
    log = workspace / "log"
    words = [*MY_TASK, "name=run", "duration.max_steps=2"]
    assert run_to_end(command(Launcher.HERE, words), log) == 0
    changed = [*words, "task.num_samples=300", "duration.max_steps=4"]
    changed += ["resume_allow=[task,duration]"]
    assert run_to_end(command(Launcher.HERE, changed), log) == 2
    assert "300 samples" in log.read_text()
    assert "was trained on 256 samples" in log.read_text()
