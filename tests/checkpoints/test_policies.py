from __future__ import annotations

from checkpoints.choices import Mode
from checkpoints.policies import best_steps, steps_to_keep

LOSSES = {10: 0.5, 20: 0.2, 30: 0.4, 40: 0.2, 50: 0.9}


def test_latest_and_best_stay() -> None:
    kept = steps_to_keep(LOSSES, keep_latest=2, keep_best=1, mode=Mode.MIN)
    assert kept == {20, 40, 50}


def test_a_larger_metric_wins_under_max() -> None:
    assert best_steps(LOSSES, Mode.MAX)[:2] == [50, 10]


def test_of_equal_metrics_the_earlier_step_is_better() -> None:
    assert best_steps(LOSSES, Mode.MIN)[:2] == [20, 40]


def test_the_newest_stays_even_if_it_is_the_worst() -> None:
    kept = steps_to_keep(LOSSES, keep_latest=1, keep_best=0, mode=Mode.MIN)
    assert kept == {50}


def test_missing_and_non_finite_metrics_are_never_best() -> None:
    metrics = {1: None, 2: float("nan"), 3: float("-inf"), 4: 7.0}
    assert best_steps(metrics, Mode.MIN) == [4]


def test_fewer_steps_than_asked_all_stay() -> None:
    assert steps_to_keep({5: None}, keep_latest=3, keep_best=3, mode=Mode.MIN) == {5}
    assert steps_to_keep({}, keep_latest=3, keep_best=3, mode=Mode.MIN) == set()
