"""Hooks into a run, in the order in which the loop calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from checkpoints import CheckpointInfo
from trainer.result import TrainResult


class StepReport(NamedTuple):
    """What happened up to a step boundary."""

    step: int  # optimizer steps done
    epoch: int  # of the last sample, from 0
    samples: int  # seen so far
    indices: list[int]  # training samples that this rank read for the step, in order
    metrics: Mapping[str, float] | None  # over all ranks; None between logged steps


class Callback:
    """Does nothing; override what you need. Every rank has its own, and calls it.

    The configuration names one as `callbacks.<name>._target_`. A hook must not change
    the model; what it draws from the random generators changes nothing in training.
    """

    def on_fit_start(self, *, step: int, last_step: int | None) -> None:
        """Once, before the first step; `step` is where the run continues."""

    def on_step_end(self, report: StepReport) -> None:
        """After every optimizer step."""

    def on_evaluation(
        self, step: int, samples: int, metrics: Mapping[str, float]
    ) -> None:
        """After every evaluation, with metrics over the whole set and all ranks."""

    def on_checkpoint(self, info: CheckpointInfo) -> None:
        """After every committed checkpoint; all logged metrics are older than it."""

    def flush(self) -> None:
        """Before every save: what was logged must be as durable as the checkpoint."""

    def on_fit_end(self, result: TrainResult) -> None:
        """Once, after the last step, when the run was neither killed nor failed."""

    def close(self) -> None:
        """Once at the very end, also after a failure; no collectives here."""
