"""A feed hands out few snapshots, and those that matter at once."""

from __future__ import annotations

import time

import pytest

from checkpoints import CheckpointInfo
from trainer.callbacks import StepReport
from trainer.logging.progress import ProgressFeed, Snapshot

BATCH = 10


def report(step: int, loss: float | None = None) -> StepReport:
    return StepReport(
        step=step,
        epoch=step // 100,
        samples=BATCH * step,
        indices=[],
        metrics=None if loss is None else {"loss": loss, "lr": 0.1},
    )


def started(
    step: int = 0, last_step: int | None = 100
) -> tuple[ProgressFeed, list[Snapshot]]:
    shown: list[Snapshot] = []
    feed = ProgressFeed(shown.append)
    feed.on_fit_start(step=step, last_step=last_step)
    return feed, shown


def test_the_start_is_shown_with_the_checkpoint_that_is_continued_from() -> None:
    _, new = started()
    assert new == [Snapshot(step=0, last_step=100)]
    _, continued = started(step=40)
    assert continued == [Snapshot(step=40, last_step=100, checkpoint_step=40)]


def test_fast_steps_are_shown_at_most_five_times_a_second() -> None:
    feed, shown = started(last_step=None)
    began = time.monotonic()
    step = 0
    while time.monotonic() - began < 0.5:
        step += 1
        feed.on_step_end(report(step))
    elapsed = time.monotonic() - began
    assert step > 100
    # The start, the second step, and then one in each fifth of a second.
    assert 3 <= len(shown) <= 2 + elapsed / 0.2


def test_speed_and_time_left_are_measured_from_the_end_of_the_first_step() -> None:
    feed, shown = started(step=40)
    time.sleep(0.3)  # a first step that warms up
    feed.on_step_end(report(41, loss=0.5))
    ended = {41: time.monotonic()}
    for step in range(42, 52):
        time.sleep(0.025)
        feed.on_step_end(report(step))
        ended[step] = time.monotonic()
    newest = shown[-1]
    assert newest.step > 41
    assert newest.loss == 0.5
    seconds = ended[newest.step] - ended[41]
    expected = (newest.step - 41) * BATCH / seconds
    assert newest.samples_per_s == pytest.approx(expected, rel=0.1)
    assert newest.samples_per_s is not None
    left = (100 - newest.step) * BATCH / newest.samples_per_s
    assert newest.seconds_left == pytest.approx(left)


def test_without_a_last_step_no_time_is_left_to_tell() -> None:
    feed, shown = started(last_step=None)
    feed.on_step_end(report(1))
    time.sleep(0.25)
    feed.on_step_end(report(2))
    assert shown[-1].samples_per_s is not None
    assert shown[-1].seconds_left is None


def test_evaluations_and_checkpoints_are_shown_at_once_and_stay() -> None:
    feed, shown = started()
    feed.on_step_end(report(1, loss=0.5))
    feed.on_evaluation(1, BATCH, {"eval/loss": 0.25})
    assert shown[-1].eval_metrics == {"eval/loss": 0.25}
    info = CheckpointInfo(step=1, url="x", size_bytes=1, metrics={}, created_at=0.0)
    feed.on_checkpoint(info)
    assert shown[-1] == Snapshot(
        step=1,
        last_step=100,
        loss=0.5,
        eval_metrics={"eval/loss": 0.25},
        checkpoint_step=1,
    )
