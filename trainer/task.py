"""What a user brings: a model, its data, and the loss and evaluation of a batch.

Owns the contract only; knows nothing of ranks, devices, checkpoints or configuration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import default_collate

Batch = Any  # what TrainTask.collate returns; tensors in it are moved to the device


class MapDataset(Protocol):
    """A map-style data set: `len(data)` samples, read as `data[index]`.

    Just before `data[index]` the global random generators of torch, numpy and Python
    are seeded from (seed, epoch, index), also in loader processes, so augmentation is
    reproduced after a restart at any number of workers. A data set that draws nothing
    may also offer `__getitems__(indices)`, torch's batched read: it must be a pure
    function of the indices, and is not seeded.

    `fingerprint` (an attribute, a string) identifies the content; without one, its
    class, length and a few samples do. A run refuses to resume on other content.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSets:
    """The data of a task; without `eval` nothing is evaluated."""

    train: MapDataset
    eval: MapDataset | None = None


class TrainTask(ABC):
    """A training problem; every rank builds its own copy from the same arguments.

    Constructor arguments are the keys beside `_target_` in the configuration. The
    constructor should be cheap; work belongs in the build methods.
    """

    #: Names that `evaluate_batch` returns; None when they are not known beforehand.
    metric_names: Sequence[str] | None = None

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Returns a new model on the CPU; called once on every rank, equally seeded."""

    @abstractmethod
    def build_datasets(self) -> DataSets:
        """Returns the data; called once on every rank, all at the same time.

        Preparation that writes files must bear several ranks at once.
        """

    @abstractmethod
    def compute_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Returns the mean loss over a micro-batch's samples, a scalar tensor.

        Called once for every micro-batch, with torch, numpy and Python seeded from
        (seed, step, micro-batch index).
        """

    def evaluate_batch(
        self, model: nn.Module, batch: Batch
    ) -> Mapping[str, Tensor | float]:
        """Returns each metric's mean over a batch's samples, scalars by name.

        Called without gradients on a model in evaluation mode. The engine weights the
        means by the number of samples, so that the result is exact over the whole set.
        """
        return {"loss": self.compute_loss(model, batch)}

    @staticmethod
    def collate(samples: list[Any] | Batch) -> Batch:
        """Returns one batch from a list of samples; also called in loader processes.

        May be overridden by a method; the task then has to pickle. What a data set's
        `__getitems__` returned is a ready batch, and passed through, unless it is a
        list.
        """
        return default_collate(samples) if isinstance(samples, list) else samples

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Returns the optimizer's parameter groups; an own `lr` is a peak."""
        return [{"params": [p for p in model.parameters() if p.requires_grad]}]
