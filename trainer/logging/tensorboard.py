"""TensorBoard event files in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from trainer.callbacks import Callback, StepReport


class TensorBoardSink(Callback):
    """Writes metrics as train/<name> and eval/<name>; on rank 0.

    Args:
        log_dir: folder of the event files, local.
        step: where the run continues; TensorBoard hides what was logged after it.
    """

    def __init__(self, log_dir: Path, *, step: int) -> None:
        self._writer = SummaryWriter(str(log_dir), purge_step=step + 1)

    def on_step_end(self, report: StepReport) -> None:
        for name, value in (report.metrics or {}).items():
            self._writer.add_scalar(f"train/{name}", value, report.step)

    def on_evaluation(
        self, step: int, samples: int, metrics: Mapping[str, float]
    ) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
