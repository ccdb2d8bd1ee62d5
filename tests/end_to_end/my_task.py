"""A user's task, loaded by words in the end-to-end tests; can be made to fail."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import TensorDataset

from trainer import DataSets, TrainTask
from trainer.task import Batch


class Line(TrainTask):
    """Fits a line.

    Args:
        slope: of the line.
        num_samples: of the training data.
        fail_at: micro-batch of which the loss raises; None: never.
        fail_rank: the rank on which it does.
        step_s: seconds that a micro-batch takes at least.
    """

    metric_names = ("loss",)

    def __init__(
        self,
        slope: float = 3.0,
        num_samples: int = 256,
        fail_at: int | None = None,
        fail_rank: int = 0,
        step_s: float = 0.0,
    ) -> None:
        self._slope = slope
        self._num_samples = num_samples
        self._fail_at = fail_at
        self._fail_rank = fail_rank
        self._step_s = step_s
        self._num_calls = 0

    def build_model(self) -> nn.Module:
        return nn.Linear(1, 1)

    def build_datasets(self) -> DataSets:
        x = torch.linspace(-1, 1, self._num_samples).unsqueeze(1)
        data = TensorDataset(x, self._slope * x)
        return DataSets(train=data, eval=data)

    def compute_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        self._num_calls += 1
        rank = dist.get_rank() if dist.is_initialized() else 0
        if self._num_calls == self._fail_at and rank == self._fail_rank:
            raise KeyError("boom")
        if model.training:
            time.sleep(self._step_s)
        return nn.functional.mse_loss(model(x), y)
