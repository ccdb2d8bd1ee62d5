"""kill -9 at random moments, the same words again: nothing lost, nothing repeated."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.end_to_end.runs import (
    Launcher,
    Run,
    command,
    evaluations,
    read_lines,
    read_result,
    run_to_end,
    train_losses,
)

# Dropout and loader processes in both: their randomness must come back too.
EXPERIMENTS = {
    "digits": (
        "experiment=digits",
        "task.width=4",
        "batch.global_size=16",
        "duration.max_epochs=null",
        "duration.max_steps=2500",
        "evaluation.every_steps=100",
    ),
    "stdlib_gpt": (
        "experiment=stdlib_gpt",
        "task.width=16",
        "task.num_layers=1",
        "task.num_heads=2",
        "task.context_length=32",
        "task.eval_fraction=0.0005",
        "task.cache_dir=cache",
        "batch.global_size=8",
        "duration.max_steps=1500",
        "evaluation.every_steps=100",
        "checkpoint.every_steps=50",
    ),
}
COMMON = (
    "loader.num_workers=2",
    "logging.samples=true",
    "logging.every_steps=1",
    "scaling.threads_per_worker=1",
)
# Starts take long, on Ray 20 s on 2 cores; PERENNIAL_NUM_KILLS=10 asks for ten on all.
NUM_KILLS = {Launcher.HERE: 10, Launcher.TORCHRUN: 5, Launcher.RAY: 1}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("launcher", list(Launcher))
def test_a_killed_run_ends_as_an_uninterrupted_one(
    launcher: Launcher, experiment: str, workspace: Path
) -> None:
    words = [*EXPERIMENTS[experiment], *COMMON]
    log = workspace / "log"
    start_s = _run_whole(command(launcher, [*words, "name=whole"]), log)
    moments = random.Random(f"{launcher} {experiment}")
    line = command(launcher, [*words, "name=killed"])
    num_kills = int(os.environ.get("PERENNIAL_NUM_KILLS", NUM_KILLS[launcher]))
    for _ in range(num_kills):
        run = Run(line, log)
        time.sleep(moments.uniform(0.1, start_s + 1.5))
        run.kill()
    code = run_to_end(line, log, timeout_s=300)
    assert code == 0, log.read_text()
    _assert_equal_runs(workspace / "runs" / "whole", workspace / "runs" / "killed")


def _run_whole(line: list[str], log: Path) -> float:
    """Trains without interruption; returns the seconds to the first step."""
    started = time.time()
    assert run_to_end(line, log, timeout_s=300) == 0, log.read_text()
    lines = read_lines(Path("runs", "whole", "metrics.jsonl"))
    return float(lines[0]["time"] - started)


def _assert_equal_runs(whole: Path, killed: Path) -> None:
    expected, found = read_result(whole), read_result(killed)
    assert found["status"] == expected["status"] == "completed"
    assert found["model_digest"] == expected["model_digest"]
    assert found["metrics"] == expected["metrics"]
    assert found["best"] == expected["best"]
    assert evaluations(killed) == evaluations(whole)
    assert train_losses(killed) == train_losses(whole)
    assert read_lines(killed / "samples.jsonl") == read_lines(whole / "samples.jsonl")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_another_number_of_workers_sees_the_same_samples(
    experiment: str, workspace: Path
) -> None:
    # With a micro-batch size dropout draws the same numbers whoever holds the batch.
    words = [*EXPERIMENTS[experiment], *COMMON, "batch.micro_size=4"]
    words += ["checkpoint.every_steps=20", "duration.max_steps=150"]
    words += ["lr_schedule.decay_steps=150"]
    log = workspace / "log"
    assert run_to_end(command(Launcher.HERE, [*words, "name=whole"]), log) == 0
    mixed = [*words, "name=mixed", "resume_allow=[duration]"]
    for num_ranks, last_step in ((2, 50), (1, 100), (2, 150)):
        line = command(
            Launcher.TORCHRUN, [*mixed, f"duration.max_steps={last_step}"], num_ranks
        )
        assert run_to_end(line, log) == 0, log.read_text()
    whole, found = workspace / "runs" / "whole", workspace / "runs" / "mixed"
    assert read_lines(found / "samples.jsonl") == read_lines(whole / "samples.jsonl")
    assert train_losses(found) == pytest.approx(train_losses(whole), abs=1e-5)
    assert read_result(found)["num_restarts"] == 2
