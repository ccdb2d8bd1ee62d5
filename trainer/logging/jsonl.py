"""`metrics.jsonl` and, for debugging, `samples.jsonl`: never a step twice."""

from __future__ import annotations

import time
from collections.abc import Mapping

from checkpoints import Storage
from trainer.callbacks import Callback, StepReport
from trainer.distributed import Distributed
from trainer.run_folder import METRICS, SAMPLES, JsonLines


class MetricsFile(Callback):
    """Writes training and evaluation metrics, one line each; on rank 0.

    Args:
        storage: the run's folder.
        step: where the run continues; lines of later steps are removed, because those
            steps come again.
        epoch_size: training samples in an epoch.
    """

    def __init__(self, storage: Storage, *, step: int, epoch_size: int) -> None:
        self._file = JsonLines(storage, METRICS, keep=lambda line: line["step"] <= step)
        self._epoch_size = epoch_size

    def on_step_end(self, report: StepReport) -> None:
        if report.metrics is not None:
            self._write(report.step, report.samples, "train", report.metrics)

    def on_evaluation(
        self, step: int, samples: int, metrics: Mapping[str, float]
    ) -> None:
        names = {name.removeprefix("eval/"): value for name, value in metrics.items()}
        self._write(step, samples, "eval", names)

    def _write(
        self, step: int, samples: int, split: str, metrics: Mapping[str, float]
    ) -> None:
        self._file.append(
            {
                "step": step,
                "epoch": max(0, samples - 1) // self._epoch_size,
                "samples": samples,
                "time": time.time(),
                "split": split,
                **metrics,
            }
        )

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class SamplesFile(Callback):
    """Writes each step's sample indices over all ranks, in global order.

    Every rank holds one, because each step gathers what the ranks have read; for
    debugging, and slow.

    Args:
        storage: the run's folder.
        step: where the run continues.
        distributed: the ranks.
    """

    def __init__(
        self, storage: Storage, *, step: int, distributed: Distributed
    ) -> None:
        self._distributed = distributed
        self._file: JsonLines | None = None
        if distributed.is_rank_zero:
            self._file = JsonLines(
                storage, SAMPLES, keep=lambda line: line["step"] <= step
            )

    def on_step_end(self, report: StepReport) -> None:
        shares = self._distributed.gather(report.indices)
        if self._file is not None and shares is not None:
            indices = [i for share in shares for i in share]  # type: ignore[attr-defined]  # lists, as sent
            self._file.append({"step": report.step, "indices": indices})

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
