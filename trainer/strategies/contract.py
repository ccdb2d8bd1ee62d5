"""The narrow contract between the loop and the way a model is spread over ranks.

The loop calls nothing else of a strategy, and a strategy knows nothing of data,
schedules, checkpoints or metrics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.config import Precision
from trainer.distributed import Distributed


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What a strategy is given to prepare."""

    model: nn.Module  # on the CPU, the same on every rank
    build_optimizer: Callable[[nn.Module], Optimizer]  # for the plain model
    distributed: Distributed
    precision: Precision
    compile: bool  # torch.compile the model
    clip_grad_norm: float | None


class Strategy(ABC):
    """Every rank holds one, makes the same calls in the same order, and calls all."""

    @property
    @abstractmethod
    def model(self) -> nn.Module:
        """The module that a training forward pass goes through."""

    @property
    @abstractmethod
    def optimizer(self) -> Optimizer:
        """The optimizer whose learning rates the loop sets before each step."""

    @abstractmethod
    def setup(self, setup: Setup) -> None:
        """Places the model and builds the optimizer. Once, before anything else."""

    @abstractmethod
    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[object]:
        """Surrounds one micro-batch's forward and backward pass.

        Once for every micro-batch that this rank has; gradients need to meet those of
        the other ranks only in the `is_last` of a step.
        """

    @abstractmethod
    def autocast(self) -> AbstractContextManager[object]:
        """Surrounds a forward pass with its loss, in training and in evaluation."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a scalar loss to those of the step.

        Once inside each `micro_batch`. The loop has weighted the loss so that the mean
        over ranks of each rank's sum is the mean over the global batch.
        """

    @abstractmethod
    def step(self) -> Tensor | None:
        """Clips, steps the optimizer, clears the gradients. Once a step.

        Returns the gradient's norm over all ranks when clipping is on.
        """

    @abstractmethod
    def evaluation_model(self) -> nn.Module:
        """Returns a module that runs forward on a rank alone, equal on all ranks.

        Once before each evaluation; may exchange buffers.
        """

    @abstractmethod
    def state(self) -> Mapping[str, Any]:
        """Returns what a checkpoint holds: names to objects with a state.

        Before every save and restore; may exchange buffers, so that rank 0's are
        everybody's.
        """

    @abstractmethod
    def model_state(self) -> Mapping[str, Tensor]:
        """Returns the full model state by name on every rank. At the end of a run."""
