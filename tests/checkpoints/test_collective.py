from __future__ import annotations

import pytest
import torch.distributed as dist

from checkpoints import (
    CheckpointError,
    Collective,
    Corrupt,
    ProcessGroupCollective,
    SingleProcess,
)
from checkpoints.collective import Failure, attempt, on_root
from tests.distributed import run_distributed


def talk() -> list[object]:
    ranks = dist.new_group(backend="gloo")
    # In this group, rank 1 of the world is rank 0.
    alone = dist.new_group([1], backend="gloo")
    groups = [ranks, alone] if dist.get_rank() == 1 else [ranks]
    seen: list[object] = []
    for group in groups:
        collective: Collective = ProcessGroupCollective(group)
        collective.barrier()
        seen += [collective.rank, collective.world_size]
        seen.append(collective.gather(f"from {collective.rank}"))
        seen.append(collective.broadcast(f"from {collective.rank}"))
    return seen


def test_a_group_gathers_on_its_first_rank_and_broadcasts_from_it() -> None:
    first, second = run_distributed(talk, 2)
    assert first == [0, 2, ["from 0", "from 1"], "from 0"]
    assert second == [1, 2, None, "from 0", 0, 1, ["from 0"], "from 0"]


def test_a_single_process_is_its_own_first_rank() -> None:
    single: Collective = SingleProcess()
    single.barrier()
    assert (single.rank, single.world_size) == (0, 1)
    assert single.gather("x") == ["x"]
    assert single.broadcast("x") == "x"


def fail(error: Exception) -> None:
    raise error


def test_our_own_error_passes_as_it_is() -> None:
    error = Corrupt("bytes have changed")
    result, told = attempt(SingleProcess(), lambda: fail(error))
    assert result is None
    assert told is error


def test_a_foreign_error_is_wrapped_with_its_cause() -> None:
    error = KeyError("x")
    _, told = attempt(SingleProcess(), lambda: fail(error))
    assert type(told) is CheckpointError
    assert told.__cause__ is error


def test_an_error_on_the_root_is_raised() -> None:
    with pytest.raises(Corrupt):
        on_root(SingleProcess(), lambda: fail(Corrupt("x")))


def test_a_failure_names_its_rank_and_keeps_our_class() -> None:
    ours = Failure.of(Corrupt("bytes have changed"), rank=3).error(world_size=4)
    assert type(ours) is Corrupt
    assert str(ours) == "rank 3: bytes have changed"
    foreign = Failure.of(KeyError("x"), rank=3).error(world_size=4)
    assert type(foreign) is CheckpointError
    assert str(foreign) == "rank 3: KeyError: 'x'"
