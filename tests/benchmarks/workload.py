"""What is trained: one model, one data set and one optimizer for every contender.

Owns nothing that differs between the contenders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer
from torch.utils.data import default_collate

from trainer import DataSets, TrainTask

Pair = tuple[Tensor, Tensor]

LR = 0.01
_SIDE = 8  # a vector is a square image to a convolution
_NUM_FEATURES = _SIDE * _SIDE
_NUM_CLASSES = 10
_NUM_SAMPLES = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """A classifier on random vectors; its size and the way to its data vary.

    Args:
        width: channels of each of two convolutions; 0: one linear layer alone.
        batch_size: samples a step.
        is_read_batched: whether the data set reads a batch at once or by the sample.
    """

    width: int
    batch_size: int = 64
    is_read_batched: bool = True

    def build_model(self) -> nn.Module:
        """Returns the model, always with the same weights."""
        torch.manual_seed(0)
        if self.width == 0:
            return nn.Linear(_NUM_FEATURES, _NUM_CLASSES)
        return nn.Sequential(
            nn.Unflatten(1, (1, _SIDE, _SIDE)),
            nn.Conv2d(1, self.width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(self.width, self.width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(self.width * _NUM_FEATURES, _NUM_CLASSES),
        )

    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """Returns the optimizer that the engine's configuration names too."""
        return SGD(model.parameters(), lr=LR, momentum=0.9)

    def build_data(self) -> Pairs:
        """Returns the data, always the same."""
        return BatchedPairs() if self.is_read_batched else Pairs()


class Pairs:
    """Inputs and labels as two tensors, read sample by sample.

    The labels are noise, so that the loss never falls to where arithmetic gets slow.
    """

    fingerprint = "random vectors and labels, seed 1"

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(1)
        size = (_NUM_SAMPLES, _NUM_FEATURES)
        self.inputs = torch.randn(size, generator=draw)
        self.labels = torch.randint(_NUM_CLASSES, size[:1], generator=draw)

    def __len__(self) -> int:
        return _NUM_SAMPLES

    def __getitem__(self, index: int) -> Pair:
        return self.inputs[index], self.labels[index]


class BatchedPairs(Pairs):
    """The same, read a batch at once."""

    def __getitems__(self, indices: Sequence[int]) -> Pair:
        chosen = torch.from_numpy(np.array(indices))
        return self.inputs[chosen], self.labels[chosen]


def collate(samples: list[Pair] | Pair) -> Pair:
    """Returns a batch from what either data set reads."""
    if isinstance(samples, tuple):
        return samples
    inputs, labels = default_collate(samples)
    return inputs, labels


class ClassifyTask(TrainTask):
    """The workload as the engine takes it.

    Args:
        width: as in `Workload`.
        is_read_batched: as in `Workload`.
    """

    def __init__(self, *, width: int, is_read_batched: bool) -> None:
        self._workload = Workload(width=width, is_read_batched=is_read_batched)

    def build_model(self) -> nn.Module:
        return self._workload.build_model()

    def build_datasets(self) -> DataSets:
        return DataSets(train=self._workload.build_data())

    def compute_loss(self, model: nn.Module, batch: Any) -> Tensor:
        inputs, labels = batch
        return cross_entropy(model(inputs), labels)
