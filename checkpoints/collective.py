"""What the ranks of one job do together around a save or a restore.

Owns the `Collective` contract, its two implementations, and how one rank's error
becomes every rank's error. Must never know what is saved or where.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar, cast

import torch.distributed as dist

from checkpoints import errors
from checkpoints.errors import CheckpointError

_Result = TypeVar("_Result")

# The other ranks wait while rank 0 writes; gloo's 30 minutes can be too short for it.
# A rank that dies closes its connections, which the others notice at once.
_GROUP_TIMEOUT = timedelta(hours=6)


class Collective(Protocol):
    """The ranks of a job; every rank must call the same methods in the same order."""

    @property
    def rank(self) -> int:
        """This process's number, from 0."""

    @property
    def world_size(self) -> int:
        """The number of ranks."""

    def barrier(self) -> None:
        """Returns when every rank has called it; all ranks must call this."""

    def gather(self, value: object) -> list[object] | None:
        """Returns every rank's small, picklable value on rank 0, None elsewhere.

        All ranks must call this.
        """

    def broadcast(self, value: object) -> object:
        """Returns rank 0's small, picklable value; all ranks must call this."""


class SingleProcess:
    """The collective of a job that has one process."""

    rank = 0
    world_size = 1

    def barrier(self) -> None:
        pass

    def gather(self, value: object) -> list[object] | None:
        return [value]

    def broadcast(self, value: object) -> object:
        return value


class ProcessGroupCollective:
    """A torch process group that carries Python objects over the CPU.

    Args:
        group: A gloo group of its own. One that training uses too can deadlock.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._root = dist.get_global_rank(group, 0)

    @property
    def rank(self) -> int:
        return dist.get_rank(self._group)

    @property
    def world_size(self) -> int:
        return dist.get_world_size(self._group)

    def barrier(self) -> None:
        dist.barrier(self._group)

    def gather(self, value: object) -> list[object] | None:
        values: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(value, values, dst=self._root, group=self._group)
        return values

    def broadcast(self, value: object) -> object:
        values = [value if self.rank == 0 else None]
        dist.broadcast_object_list(values, src=self._root, group=self._group)
        return values[0]


def open_group() -> dist.ProcessGroup | None:
    """Returns a new gloo group of all ranks, None when torch has no process group.

    All ranks must call this; close it with `close_group`.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return None
    return cast(
        dist.ProcessGroup, dist.new_group(backend="gloo", timeout=_GROUP_TIMEOUT)
    )


def close_group(group: dist.ProcessGroup) -> None:
    """Destroys a group, unless torch has destroyed all groups before."""
    if dist.is_initialized():
        dist.destroy_process_group(group)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it travels between ranks: the words, not the object."""

    rank: int
    kind: str  # the class's name
    message: str

    @classmethod
    def of(cls, error: Exception, rank: int) -> Failure:
        """Returns what other ranks are told of an error."""
        return cls(rank, type(error).__name__, str(error))

    def error(self, world_size: int) -> CheckpointError:
        """Returns the same error for every rank; ours keeps its class."""
        where = f"rank {self.rank}: " if world_size > 1 else ""
        known = getattr(errors, self.kind, None)
        if isinstance(known, type) and issubclass(known, CheckpointError):
            return known(where + self.message)
        return CheckpointError(f"{where}{self.kind}: {self.message}")


def attempt(
    collective: Collective, function: Callable[[], _Result]
) -> tuple[_Result | None, CheckpointError | None]:
    """Returns the function's result, or the error of the first rank that had one.

    All ranks must call this. Either every rank gets an error or none does.
    """
    result, own = None, None
    try:
        result = function()
    except Exception as err:  # noqa: BLE001  other ranks must hear of any failure
        own = err
    told = collective.gather(Failure.of(own, collective.rank) if own else None)
    first = next((f for f in told or [] if f is not None), None)
    verdict = collective.broadcast(first)
    if verdict is None:
        return result, None
    assert isinstance(verdict, Failure)
    if isinstance(own, CheckpointError) and collective.world_size == 1:
        return None, own
    error = verdict.error(collective.world_size)
    error.__cause__ = own
    return None, error


def on_root(collective: Collective, function: Callable[[], _Result]) -> _Result:
    """Returns on every rank what the function gives on rank 0; all ranks must call it.

    Raises:
        CheckpointError: It failed on rank 0; raised on every rank.
    """
    result, error = attempt(
        collective, lambda: function() if collective.rank == 0 else None
    )
    if error is not None:
        raise error
    return cast(_Result, collective.broadcast(result))
