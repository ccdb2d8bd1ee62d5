"""Who this process is among the ranks, and the exchanges that are not gradients.

Joins a process group that torchrun describes or that Ray Train has made; one process
alone has none. Control messages travel on a gloo group of their own, so that they can
neither wait for nor be mixed up with the collectives of training.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from checkpoints import ProcessGroupCollective, SingleProcess
from trainer.config import is_torchrun

T = TypeVar("T")

# Long enough for one rank's slow start (a cold import, a data set's preparation).
_TIMEOUT = timedelta(minutes=30)


def launched_rank() -> int:
    """Returns the rank that a launcher gave this process, 0 without one."""
    return int(os.environ.get("RANK", "0"))


class Distributed:
    """This process's place among the ranks; satisfies `checkpoints.Collective`.

    Every rank must construct it, call the collective methods in the same order, and
    call `close`. `abandon` closes without the others, after a failure.

    Args:
        use_gpu: whether each rank has a GPU; the one of its local rank is used.
    """

    def __init__(self, *, use_gpu: bool) -> None:
        self._owns_group = not dist.is_initialized() and is_torchrun()
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.device = torch.device(f"cuda:{local_rank}" if use_gpu else "cpu")
        if use_gpu:
            torch.cuda.set_device(self.device)
        if self._owns_group:
            backend = "nccl" if use_gpu else "gloo"
            dist.init_process_group(backend, timeout=_TIMEOUT)
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world_size = dist.get_world_size() if dist.is_initialized() else 1
        self._group: dist.ProcessGroup | None = None
        self._collective: ProcessGroupCollective | SingleProcess = SingleProcess()
        if self.world_size > 1:
            self._group = dist.new_group(backend="gloo", timeout=_TIMEOUT)
            self._collective = ProcessGroupCollective(self._group)

    @property
    def is_rank_zero(self) -> bool:
        return self.rank == 0

    @property
    def num_local_ranks(self) -> int:
        """Ranks that share this machine's cores."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def barrier(self) -> None:
        """Returns when all ranks have called it. All ranks must call this."""
        self._collective.barrier()

    def gather(self, value: object) -> list[object] | None:
        """Returns every rank's value on rank 0, None elsewhere. All ranks call this."""
        return self._collective.gather(value)

    def broadcast(self, value: object) -> object:
        """Returns rank 0's value on every rank. All ranks must call this."""
        return self._collective.broadcast(value)

    def on_rank_zero(self, function: Callable[[], T]) -> T:
        """Runs `function` on rank 0; all ranks return its value or raise its error.

        All ranks must call this.
        """
        outcome: tuple[T | None, Exception | None] = (None, None)
        if self.is_rank_zero:
            try:
                outcome = (function(), None)
            except Exception as error:
                if self.world_size == 1:
                    raise
                outcome = (None, error)
        pair = self.broadcast(outcome)
        value, failure = cast(tuple[T, Exception | None], pair)
        if failure is not None:
            raise failure
        return value

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the sum over ranks of a tensor on the CPU. All ranks must call this.

        Gathered and added in rank order, so that every rank has the same bits.
        """
        if self._group is None:
            return values
        parts = [torch.empty_like(values) for _ in range(self.world_size)]
        dist.all_gather(parts, values, group=self._group)
        return torch.stack(parts).sum(dim=0)

    def start_max(self, values: torch.Tensor) -> dist.Work | None:
        """Starts an elementwise maximum over ranks in place; wait on what it returns.

        All ranks must call this. Returns None for one process: nothing to wait for.
        """
        if self._group is None:
            return None
        work: dist.Work | None = dist.all_reduce(
            values, op=dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        return work

    def close(self) -> None:
        """Leaves the groups. All ranks must call this."""
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None
        self.abandon()

    def abandon(self) -> None:
        """Leaves without waiting for anybody; peers' collectives then fail at once."""
        if self._owns_group and dist.is_initialized():
            dist.destroy_process_group()
        self._owns_group = False
