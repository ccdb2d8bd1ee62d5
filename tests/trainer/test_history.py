"""What earlier attempts did, told from records as a run writes them."""

from __future__ import annotations

from typing import Any

import pytest

from trainer import history


def event(time: float, name: str, **facts: Any) -> dict[str, Any]:
    return {"time": time, "event": name, **facts}


def line(time: float, step: int, split: str = "train") -> dict[str, Any]:
    return {"time": time, "step": step, "split": split}


# Killed at 30, started again at 100, killed at 120, started again at 200.
EVENTS = [
    event(10, "run_started"),
    event(12, "workers_started"),
    event(20, "checkpoint_saved", step=10),
    event(100, "run_started"),
    event(103, "restored", step=10, steps_lost=5, lost_s=10.0),
    event(104, "workers_started"),
]
METRICS = [line(20, 10), line(30, 15), line(20, 10, "eval"), line(120, 14)]


def test_counts_and_losses_are_those_of_all_attempts() -> None:
    events = [
        *EVENTS,
        event(200, "run_started"),
        event(201, "restored", step=10, steps_lost=4, lost_s=16.5),
        event(202, "workers_started"),
    ]
    assert history.count(events, "run_started") == 3
    assert history.num_restarts(events) == 2
    assert history.steps_lost(events) == 9
    assert history.seconds_lost(events) == 26.5


def test_a_run_without_events_has_lost_nothing() -> None:
    assert history.num_restarts([]) == 0
    assert history.steps_lost([]) == 0
    assert history.seconds_lost([]) == 0.0
    assert history.seconds_alive([], []) == 0.0
    assert history.last_logged_step([]) == 0
    assert history.failures([]) == []


def test_the_last_logged_step_is_one_of_training() -> None:
    assert history.last_logged_step(METRICS) == 15
    assert history.last_logged_step([line(1, 99, "eval")]) == 0


def test_pauses_between_attempts_are_not_lived() -> None:
    # 10 to 30, and 100 to 120.
    assert history.seconds_alive(EVENTS, METRICS) == pytest.approx(40.0)


def test_workers_that_were_started_again_begin_an_attempt_of_their_own() -> None:
    # One launch whose workers died at 30 and came back at 50, as Ray brings them.
    events = [
        event(10, "run_started"),
        event(12, "workers_started"),
        event(50, "restored", step=10, steps_lost=5, lost_s=0.0),
        event(51, "workers_started"),
    ]
    metrics = [line(30, 15), line(60, 20)]
    assert history.seconds_alive(events, metrics) == pytest.approx(20.0 + 10.0)


def test_time_is_unsaved_from_the_checkpoint_on() -> None:
    events = [*EVENTS[:3], event(100, "run_started")]
    assert history.unsaved_seconds(events, METRICS[:3], 20.0) == pytest.approx(10.0)


def test_without_a_checkpoint_the_whole_attempt_is_unsaved() -> None:
    events = [*EVENTS[:2], event(100, "run_started")]
    assert history.unsaved_seconds(events, METRICS[:3], 0.0) == pytest.approx(20.0)


def test_time_that_was_counted_as_lost_is_not_counted_again() -> None:
    # The second attempt saved nothing: it continued from the checkpoint of 20 too.
    events = [*EVENTS, event(200, "run_started")]
    unsaved = history.unsaved_seconds(events, METRICS, 20.0)
    assert unsaved == pytest.approx(120 - 103)


def test_failures_are_the_facts_of_their_events() -> None:
    events = [
        *EVENTS,
        event(30, "failure", rank=1, message="rank 1: KeyError", file="failures/a.txt"),
    ]
    assert history.failures(events) == [
        {
            "time": 30,
            "rank": 1,
            "message": "rank 1: KeyError",
            "file": "failures/a.txt",
        }
    ]
