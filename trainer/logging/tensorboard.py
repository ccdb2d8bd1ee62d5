"""TensorBoard event files in the run's folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from trainer.callbacks import Callback, StepReport


class TensorBoardSink(Callback):
    """Writes metrics as train/<name> and eval/<name>; on rank 0.

    Not by `SummaryWriter`: its `flush` leaves what is still in its thread's queue.

    Args:
        log_dir: folder of the event files, local.
        step: where the run continues; TensorBoard hides what was logged after it.
    """

    def __init__(self, log_dir: Path, *, step: int) -> None:
        log_dir.mkdir(parents=True, exist_ok=True)
        # Attempts that start within a second need names of their own, in order.
        suffix = f".{time.time_ns()}"
        self._writer = EventsWriter(str(log_dir / "events"), filename_suffix=suffix)
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=step + 1, session_log=start))

    def on_step_end(self, report: StepReport) -> None:
        metrics = report.metrics or {}
        self._log({f"train/{k}": v for k, v in metrics.items()}, report.step)

    def on_evaluation(
        self, step: int, samples: int, metrics: Mapping[str, float]
    ) -> None:
        self._log(metrics, step)

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        values = [Summary.Value(tag=k, simple_value=v) for k, v in metrics.items()]
        if values:
            self._write(Event(step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
