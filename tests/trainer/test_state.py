"""A run's counters resume exactly, and the best evaluation is what one expects."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from checkpoints import CheckpointManager
from trainer.config import Mode
from trainer.state import Best, Progress


def full_progress() -> Progress:
    return Progress(
        step=12,
        samples=768,
        train_time_s=1.25,
        train_metrics={"train/loss": 0.1},
        eval_metrics={"eval/loss": 0.2, "eval/accuracy": 0.9},
        eval_step=10,
        best=Best(step=10, metric="eval/loss", value=0.2),
        num_evals_without_best=3,
        num_threads=2,
        fingerprints={"train": "9 samples, a"},
        ledger={"train": 1.25},
    )


@pytest.mark.parametrize("progress", [Progress(), full_progress()])
def test_a_checkpoint_gives_back_every_field(
    tmp_path: Path, progress: Progress
) -> None:
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, {"progress": progress}).wait()
        restored = Progress(
            step=99, eval_step=5, best=Best(step=1, metric="x", value=1)
        )
        manager.restore({"progress": restored})
    assert restored == progress


def record(
    progress: Progress, value: float, mode: Mode = Mode.min, min_delta: float = 0.0
) -> bool:
    progress.step += 10
    return progress.record_evaluation(
        {"eval/loss": value, "eval/other": 5.0},
        "eval/loss",
        mode=mode,
        min_delta=min_delta,
    )


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        (Mode.min, [0.5, 0.4, 0.4, 0.6, 0.3], [True, True, False, False, True]),
        (Mode.max, [0.5, 0.4, 0.5, 0.6, 0.3], [True, False, False, True, False]),
    ],
)
def test_the_best_is_strictly_better(
    mode: Mode, values: list[float], expected: list[bool]
) -> None:
    progress = Progress()
    assert [record(progress, value, mode) for value in values] == expected
    best = min(values) if mode is Mode.min else max(values)
    step = 10 * (values.index(best) + 1)
    assert progress.best == Best(step=step, metric="eval/loss", value=best)


def test_evaluations_without_a_new_best_are_counted() -> None:
    progress = Progress()
    counts = []
    for value in [0.5, 0.6, 0.7, 0.4, 0.4]:
        record(progress, value)
        counts.append(progress.num_evals_without_best)
    assert counts == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("mode", [Mode.min, Mode.max])
def test_a_smaller_change_than_min_delta_is_no_improvement(mode: Mode) -> None:
    sign = -1 if mode is Mode.min else 1
    progress = Progress()
    changes = [0.0, 0.0625, 0.125, 0.1875]
    found = [record(progress, sign * change, mode, 0.125) for change in changes]
    assert found == [True, False, False, True]


def test_a_value_that_is_no_number_is_never_the_best() -> None:
    progress = Progress()
    assert not record(progress, math.nan)
    assert not record(progress, math.nan)
    assert progress.num_evals_without_best == 2  # so early stopping ends such a run
    assert record(progress, 0.5)
    assert not record(progress, math.nan)
    assert progress.best == Best(step=30, metric="eval/loss", value=0.5)


def test_infinity_is_a_value_that_can_be_beaten() -> None:
    progress = Progress()
    assert record(progress, math.inf)
    assert not record(progress, math.inf)
    assert record(progress, 1e30)


def test_without_a_metric_nothing_is_the_best() -> None:
    progress = Progress(step=7)
    metrics = {"eval/loss": 0.5}
    assert not progress.record_evaluation(metrics, None, mode=Mode.min, min_delta=0.0)
    assert progress.best is None
    assert progress.eval_metrics == metrics
    assert progress.eval_step == 7


def test_a_metric_that_was_not_evaluated_is_an_error() -> None:
    with pytest.raises(KeyError, match="eval/f1"):
        Progress().record_evaluation({}, "eval/f1", mode=Mode.max, min_delta=0.0)
