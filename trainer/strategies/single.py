"""One process, or the part of a replicated model that each rank does alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.precision import MixedPrecision
from trainer.strategies.contract import Setup, Strategy


class SingleStrategy(Strategy):
    """Trains a whole model in this process."""

    _module: nn.Module
    _optimizer: Optimizer

    @property
    def model(self) -> nn.Module:
        return self._module

    @property
    def optimizer(self) -> Optimizer:
        return self._optimizer

    def setup(self, setup: Setup) -> None:
        device = setup.distributed.device
        self._module = setup.model.to(device)
        self._parameters = [p for p in self._module.parameters() if p.requires_grad]
        self._optimizer = setup.build_optimizer(self._module)
        self._precision = MixedPrecision(setup.precision, device)
        self._clip_grad_norm = setup.clip_grad_norm
        if setup.compile:
            self._module.compile()

    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[object]:
        return nullcontext()

    def autocast(self) -> AbstractContextManager[object]:
        return self._precision.autocast()

    def backward(self, loss: Tensor) -> None:
        scaled = self._precision.scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]  # torch's own

    def step(self) -> Tensor | None:
        scaler = self._precision.scaler
        norm = None
        if self._clip_grad_norm is not None:
            scaler.unscale_(self._optimizer)
            norm = nn.utils.clip_grad_norm_(self._parameters, self._clip_grad_norm)
        scaler.step(self._optimizer)
        scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def evaluation_model(self) -> nn.Module:
        return self._module

    def state(self) -> Mapping[str, Any]:
        scaler = self._precision.scaler
        state = {"model": self._module, "optimizer": self._optimizer}
        return {**state, "scaler": scaler} if scaler.is_enabled() else state

    def model_state(self) -> Mapping[str, Tensor]:
        return self._module.state_dict()
