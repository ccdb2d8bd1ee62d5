"""Small tasks that the tests of the engine train, named by `task._target_`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from trainer import Callback, DataSets, StepReport, TrainTask
from trainer.task import Batch


class Regression(TrainTask):
    """A small network with dropout on noisy random data.

    Args:
        num_eval: held-out samples; 0: no evaluation.
        scalar: whether the loss is a scalar, as it has to be.
    """

    metric_names = ("loss", "mean_target")

    def __init__(self, num_eval: int = 37, scalar: bool = True) -> None:
        self._num_eval = num_eval
        self._scalar = scalar

    def build_model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1)
        )

    def build_datasets(self) -> DataSets:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(96 + self._num_eval, 4, generator=generator)
        y = x.sum(dim=1, keepdim=True)
        held_out = TensorDataset(x[96:], y[96:]) if self._num_eval else None
        return DataSets(train=TensorDataset(x[:96], y[:96]), eval=held_out)

    def compute_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        loss: Tensor = (model(x) - y).square()
        return loss.mean() if self._scalar else loss

    def evaluate_batch(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        return {
            "loss": self.compute_loss(model, batch),
            "mean_target": batch[1].double().mean(),
        }


class Worsening(Regression):
    """Its evaluation gets worse every time after the first."""

    def __init__(self) -> None:
        super().__init__(num_eval=4)
        self._num_evals = 0

    def evaluate_batch(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        self._num_evals += 1
        value = torch.tensor(float(self._num_evals))
        return {"loss": value, "mean_target": value}


class Witness(Callback):
    """Notes what it saw, for all instances, until it is cleared."""

    steps: list[int] = []  # noqa: RUF012  shared on purpose
    indices: list[int] = []  # noqa: RUF012

    def on_step_end(self, report: StepReport) -> None:
        self.steps.append(report.step)
        self.indices.extend(report.indices)
