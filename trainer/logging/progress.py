"""How far a run is, in a form that can be sent to whoever has the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from checkpoints import CheckpointInfo
from trainer.callbacks import Callback, StepReport

_INTERVAL_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """One moment of a run."""

    step: int
    last_step: int | None
    epoch: int = 0
    loss: float | None = None  # newest logged
    samples_per_s: float | None = None
    seconds_left: float | None = None
    eval_metrics: Mapping[str, float] | None = None
    checkpoint_step: int | None = None


class ProgressFeed(Callback):
    """Hands a `Snapshot` to a display at most five times a second; on rank 0.

    Args:
        show: takes each snapshot.
    """

    def __init__(self, show: Callable[[Snapshot], None]) -> None:
        self._show = show
        self._now = Snapshot(step=0, last_step=None)
        self._shown_at = 0.0
        self._started = (time.monotonic(), 0, 0)  # time, step, samples

    def on_fit_start(self, *, step: int, last_step: int | None) -> None:
        checkpoint = step or None
        self._now = Snapshot(step=step, last_step=last_step, checkpoint_step=checkpoint)
        self._started = (time.monotonic(), step, -1)
        self._show(self._now)

    def on_step_end(self, report: StepReport) -> None:
        loss = report.metrics["loss"] if report.metrics else self._now.loss
        now = time.monotonic()
        self._now = replace(self._now, step=report.step, epoch=report.epoch, loss=loss)
        started_at, first_step, _ = self._started
        if self._started[2] < 0:  # the first step warms up: measure from its end
            self._started = (now, report.step, report.samples)
        elif now - self._shown_at > _INTERVAL_S:
            started_at, first_step, first_sample = self._started
            seconds = now - started_at
            per_step = seconds / (report.step - first_step)
            last = self._now.last_step
            self._now = replace(
                self._now,
                samples_per_s=(report.samples - first_sample) / seconds,
                seconds_left=None if last is None else per_step * (last - report.step),
            )
            self._send(now)

    def on_evaluation(
        self, step: int, samples: int, metrics: Mapping[str, float]
    ) -> None:
        self._now = replace(self._now, eval_metrics=dict(metrics))
        self._send(time.monotonic())

    def on_checkpoint(self, info: CheckpointInfo) -> None:
        self._now = replace(self._now, checkpoint_step=info.step)
        self._send(time.monotonic())

    def _send(self, now: float) -> None:
        self._shown_at = now
        self._show(self._now)
