"""torch's DistributedDataParallel: a model on every rank, gradients averaged."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainer.strategies.contract import Setup
from trainer.strategies.single import SingleStrategy


class DdpStrategy(SingleStrategy):
    """Replicates the model; with one rank it is a `SingleStrategy` and adds nothing.

    Args:
        bucket_cap_mb: size of a gradient bucket in MiB.
        find_unused_parameters: for models that skip parameters in some steps.
        static_graph: promises that the used parameters never change.
    """

    def __init__(
        self,
        *,
        bucket_cap_mb: float = 25.0,
        find_unused_parameters: bool = False,
        static_graph: bool = False,
    ) -> None:
        self._options: dict[str, Any] = {
            "bucket_cap_mb": bucket_cap_mb,
            "find_unused_parameters": find_unused_parameters,
            "static_graph": static_graph,
        }
        self._replica: DistributedDataParallel | None = None

    @property
    def model(self) -> nn.Module:
        return self._module if self._replica is None else self._replica

    def setup(self, setup: Setup) -> None:
        super().setup(setup)
        if setup.distributed.world_size > 1:
            self._replica = DistributedDataParallel(
                self._module, gradient_as_bucket_view=True, **self._options
            )

    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[object]:
        if self._replica is None or is_last:
            return nullcontext()
        return self._replica.no_sync()

    def evaluation_model(self) -> nn.Module:
        self._share_buffers()
        return self._module

    def state(self) -> Mapping[str, Any]:
        self._share_buffers()
        return super().state()

    def _share_buffers(self) -> None:
        """Gives all ranks rank 0's buffers, as DDP does before every forward pass.

        Running statistics (BatchNorm's) differ between ranks after a step.
        """
        if self._replica is not None:
            for buffer in self._module.buffers():
                dist.broadcast(buffer, src=0)
