from __future__ import annotations

import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

from tests.distributed import run_distributed


def run_sum(offset: float) -> torch.Tensor:
    value = torch.tensor([dist.get_rank() + offset])
    dist.all_reduce(value)
    return value


def run_threads() -> tuple[int, int]:
    return dist.get_rank(), torch.get_num_threads()


def run_error_on_rank_1() -> None:
    if dist.get_rank() == 1:
        raise LookupError("rank 1 is at fault")
    dist.barrier()


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def run_unpicklable_error() -> None:
    raise Unpicklable(1, 2)


def run_kill_on_rank_1() -> None:
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def run_sleep_on_rank_1() -> None:
    if dist.get_rank() == 1:
        time.sleep(600)


def test_results_come_back_in_the_order_of_the_ranks() -> None:
    assert run_distributed(run_threads, 3) == [(0, 1), (1, 1), (2, 1)]


def test_ranks_reduce_together_and_return_tensors() -> None:
    results = run_distributed(run_sum, 2, 0.5)
    assert [result.item() for result in results] == [2.0, 2.0]


def test_the_error_of_the_rank_at_fault_is_raised_with_its_traceback() -> None:
    with pytest.raises(LookupError, match="rank 1 is at fault") as caught:
        run_distributed(run_error_on_rank_1)
    [note] = caught.value.__notes__
    assert "raised on rank 1" in note
    assert "in run_error_on_rank_1" in note


def test_an_error_that_does_not_pickle_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"Unpicklable\('1 and 2'\)"):
        run_distributed(run_unpicklable_error)


def test_a_killed_rank_is_named() -> None:
    with pytest.raises(RuntimeError, match="rank 1 ended with exit code -9"):
        run_distributed(run_kill_on_rank_1)


def test_a_stuck_rank_ends_in_a_timeout_that_says_where() -> None:
    with pytest.raises(TimeoutError, match=r"ranks \[1\] did not end") as caught:
        run_distributed(run_sleep_on_rank_1, timeout_s=1.0)
    assert "in run_sleep_on_rank_1" in str(caught.value)
