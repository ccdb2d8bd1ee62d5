"""Evaluating a model over the whole held-out set, exactly, at any number of ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from trainer.data import Fetched
from trainer.distributed import Distributed
from trainer.metrics import WeightedMeans
from trainer.randomness import Purpose, derive_seed, seed_generators
from trainer.strategies import Strategy
from trainer.task import Batch, TrainTask


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch with every tensor in it on the device."""
    if device.type == "cpu":
        return batch
    return _move(batch, device)


def _move(value: Any, device: torch.device) -> Any:
    if hasattr(value, "to"):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _move(item, device) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_move(item, device) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_move(item, device) for item in value)
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluator:
    """Runs the held-out data through a model; every rank holds one.

    Each rank reads its own part, none twice; metrics are means over all samples.
    """

    task: TrainTask
    batches: Iterable[Fetched]  # this rank's part of the held-out data
    strategy: Strategy
    distributed: Distributed
    seed: int

    def evaluate(self) -> dict[str, float]:
        """Returns the metrics as eval/<name>. All ranks must call this."""
        model = self.strategy.evaluation_model()
        means = WeightedMeans()
        model.eval()
        with torch.no_grad():
            for indices, raw in self.batches:
                batch = to_device(raw, self.distributed.device)
                draw = derive_seed(Purpose.EVALUATION, self.seed, indices[0])
                seed_generators(draw)
                with self.strategy.autocast():
                    metrics = self.task.evaluate_batch(model, batch)
                means.add(metrics, len(indices))
        self.strategy.model.train()
        totals = means.compute(self.distributed)
        return {f"eval/{name}": value for name, value in totals.items()}
