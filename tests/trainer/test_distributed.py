"""What ranks exchange besides gradients: the same for all, values and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from checkpoints import CheckpointManager
from tests.distributed import run_distributed
from trainer.distributed import Distributed, launched_rank
from trainer.errors import ConfigError, Fault, TrainerError

FAULT = Fault(path="a", value=1, rule="must be 2", remedy="a=2")


def run_exchanges() -> dict[str, Any]:
    found: dict[str, Any] = {}
    distributed = Distributed(use_gpu=False)
    rank = distributed.rank
    found["place"] = (rank, distributed.world_size, distributed.is_rank_zero)
    found["gather"] = distributed.gather({"rank": rank})
    found["broadcast"] = distributed.broadcast(f"of {rank}")

    calls: list[int] = []

    def compute() -> str:
        calls.append(rank)
        return f"computed on {rank}"

    found["value"] = distributed.on_rank_zero(compute)
    found["calls"] = calls

    def refuse() -> None:
        raise ConfigError([FAULT])

    with pytest.raises(ConfigError) as caught:
        distributed.on_rank_zero(refuse)
    found["error"] = caught.value.faults

    torch.manual_seed(rank)
    parts = torch.randn(1000) * 10.0 ** torch.randint(-6, 6, (1000,))
    found["parts"], found["sum"] = parts, distributed.sum(parts)

    asked = torch.tensor([rank, 5 - rank], dtype=torch.int32)
    work = distributed.start_max(asked)
    assert work is not None
    work.wait()
    found["max"] = asked.tolist()

    distributed.barrier()
    distributed.close()
    found["keeps the group that was there"] = dist.is_initialized()
    return found


def test_ranks_exchange_values_and_errors() -> None:
    zero, one, two = run_distributed(run_exchanges, 3)
    assert [rank["place"] for rank in (zero, one, two)] == [
        (0, 3, True),
        (1, 3, False),
        (2, 3, False),
    ]
    assert zero["gather"] == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
    assert one["gather"] is two["gather"] is None
    assert [rank["calls"] for rank in (zero, one, two)] == [[0], [], []]
    for rank in (zero, one, two):
        assert rank["broadcast"] == "of 0"
        assert rank["value"] == "computed on 0"
        assert rank["error"] == (FAULT,)
        assert rank["max"] == [2, 5]
        # The same bits, and those of adding in the order of the ranks.
        assert torch.equal(rank["sum"], zero["sum"])
        assert rank["keeps the group that was there"]
    expected = zero["parts"] + one["parts"] + two["parts"]
    assert torch.equal(zero["sum"], expected)


def test_one_process_is_its_own_group() -> None:
    distributed = Distributed(use_gpu=False)
    assert (distributed.rank, distributed.world_size) == (0, 1)
    assert distributed.device == torch.device("cpu")
    assert distributed.gather(3) == [3]
    assert distributed.broadcast(3) == 3
    values = torch.ones(2)
    assert distributed.start_max(values) is None
    assert distributed.sum(values) is values
    distributed.barrier()
    distributed.close()
    assert not dist.is_initialized()


def test_one_process_gets_its_error_with_its_traceback() -> None:
    def fail() -> None:
        raise TrainerError("mine")

    with pytest.raises(TrainerError, match="mine") as caught:
        Distributed(use_gpu=False).on_rank_zero(fail)
    assert caught.traceback[-1].name == "fail"


def test_a_launcher_makes_one_process_a_rank(
    monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    facts = {
        "RANK": 0,
        "LOCAL_RANK": 0,
        "WORLD_SIZE": 1,
        "LOCAL_WORLD_SIZE": 1,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": unused_port,
    }
    assert launched_rank() == 0
    for name, value in facts.items():
        monkeypatch.setenv(name, str(value))
    distributed = Distributed(use_gpu=False)
    assert dist.is_initialized()
    assert (distributed.world_size, distributed.num_local_ranks) == (1, 1)
    distributed.close()
    assert not dist.is_initialized()
    distributed.abandon()  # as whoever cleans up calls it, whatever came before


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_serves_a_checkpoint_manager(tmp_path: Any) -> None:
    distributed = Distributed(use_gpu=False)
    with CheckpointManager(tmp_path, collective=distributed) as manager:
        manager.save(1, {"progress": {"step": 1}}).wait()
        assert manager.latest() is not None
