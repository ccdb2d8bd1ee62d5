"""The metrics of a run never repeat a step, and samples are those of all ranks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from checkpoints import open_storage
from trainer.callbacks import StepReport
from trainer.distributed import Distributed
from trainer.logging.jsonl import MetricsFile, SamplesFile


def report(
    step: int, metrics: dict[str, float] | None = None, indices: list[int] | None = None
) -> StepReport:
    return StepReport(
        step=step, epoch=0, samples=4 * step, indices=indices or [], metrics=metrics
    )


def lines(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / name).read_text().splitlines()]


def test_a_line_has_its_place_in_the_run_and_then_the_metrics(tmp_path: Path) -> None:
    file = MetricsFile(open_storage(tmp_path), step=0, epoch_size=8)
    before = time.time()
    file.on_step_end(report(1))  # not a logged step
    file.on_step_end(report(2, {"loss": 0.5, "lr": 0.1}))
    file.on_evaluation(2, 8, {"eval/loss": 0.25})
    file.on_step_end(report(3, {"loss": 0.25, "lr": 0.1}))
    file.close()
    first, second, third = lines(tmp_path)
    assert before <= first["time"] <= time.time()
    assert list(first) == ["step", "epoch", "samples", "time", "split", "loss", "lr"]
    assert (first["step"], first["samples"], first["split"]) == (2, 8, "train")
    assert (second["step"], second["split"], second["loss"]) == (2, "eval", 0.25)
    # The last sample of an epoch is still of that epoch.
    assert [line["epoch"] for line in (first, second, third)] == [0, 0, 1]


def test_steps_of_a_split_strictly_increase_over_restarts(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    for resumed_at, killed_at in [(0, 7), (4, 6), (4, 9), (8, 10)]:
        file = MetricsFile(storage, step=resumed_at, epoch_size=100)
        for step in range(resumed_at + 1, killed_at + 1):
            file.on_step_end(report(step, {"loss": 1.0}))
            if step % 4 == 0:
                file.on_evaluation(step, 4 * step, {"eval/loss": 1.0})
        file.close()
    steps: dict[str, list[int]] = {"train": [], "eval": []}
    for line in lines(tmp_path):
        steps[line["split"]].append(line["step"])
    assert steps == {"train": list(range(1, 11)), "eval": [4, 8]}


def test_samples_of_steps_that_come_again_are_written_once(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    for resumed_at in (0, 2):
        file = SamplesFile(
            storage, step=resumed_at, distributed=Distributed(use_gpu=False)
        )
        for step in range(resumed_at + 1, 4):
            file.on_step_end(report(step, indices=[2 * step, 2 * step + 1]))
        file.flush()
        file.close()
    assert lines(tmp_path, "samples.jsonl") == [
        {"step": step, "indices": [2 * step, 2 * step + 1]} for step in (1, 2, 3)
    ]
