"""One line for any failure: what, on which rank, in which line of the user's code."""

from __future__ import annotations

import inspect
import os
import signal
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

import trainer.recovery
from checkpoints import Corrupt, Mismatch, StorageError, open_storage
from tests.distributed import run_distributed
from trainer.errors import FailureKind, WorkerFailed
from trainer.recovery import explain, find_user_line

HERE = __file__


class Samples:
    """Four samples; reading one calls a function."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return self._read()


def raise_in_the_middle() -> None:
    torch.nn.functional.linear(torch.zeros(2, 3), torch.zeros(4, 5))


def raise_value_error() -> None:
    raise ValueError("sample is broken")


def raise_key_error() -> None:
    raise KeyError("label")


def raise_memory_error() -> None:
    raise MemoryError


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def line_of(function: Callable[..., Any]) -> str:
    """Returns file:line of a function's second line."""
    return f"{HERE}:{inspect.getsourcelines(function)[1] + 1}"


def failure_of(function: Callable[[], Any], rank: int = 0) -> WorkerFailed:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any error is explained
        function()
    return explain(caught.value, rank)


def load(read: Callable[[], Any]) -> Callable[[], Any]:
    """Returns what reads the samples in a loader process."""

    def read_all() -> None:
        data: Any = Samples(read)  # torch's Dataset is a class, this is its protocol
        batches: Any = iter(DataLoader(data, num_workers=1))
        try:
            for _ in batches:
                pass
        finally:
            batches._shutdown_workers()  # the error, which is kept, keeps them

    return read_all


def test_a_bug_below_a_library_is_placed_in_the_users_line() -> None:
    failure = failure_of(raise_in_the_middle, rank=3)
    assert (failure.rank, failure.kind) == (3, FailureKind.BUG)
    assert failure.where == line_of(raise_in_the_middle)
    assert failure.cause.startswith("RuntimeError: mat1 and mat2 shapes cannot be")
    assert "start the same words again" in failure.advice
    assert "raise_in_the_middle" in failure.traceback
    assert "\n" not in str(failure)


def test_a_bug_in_a_loader_process_is_placed_there() -> None:
    failure = failure_of(load(raise_value_error))
    assert failure.kind is FailureKind.BUG
    assert failure.cause == "ValueError: sample is broken"
    assert failure.where == line_of(raise_value_error)


def test_a_missing_key_in_a_loader_process_is_named() -> None:
    failure = failure_of(load(raise_key_error))
    assert failure.cause == "KeyError: 'label'"
    assert failure.where == line_of(raise_key_error)


def raise_long_error() -> None:
    raise ValueError("first line\nsecond: line")


@pytest.mark.parametrize("wrap", [lambda read: read, load], ids=["here", "loader"])
def test_the_first_line_of_a_long_message_is_the_cause(wrap: Any) -> None:
    assert failure_of(wrap(raise_long_error)).cause == "ValueError: first line"


def test_a_killed_loader_process_has_its_own_advice() -> None:
    failure = failure_of(load(kill_this_process))
    assert failure.kind is FailureKind.MEMORY  # another try need not end alike
    assert "fewer loader.num_workers" in failure.advice


@pytest.mark.parametrize(
    "function",
    [raise_memory_error, load(raise_memory_error), lambda: torch.empty(10**15)],
    ids=["python", "loader", "torch"],
)
def test_memory_that_ran_out_asks_for_smaller_micro_batches(
    function: Callable[[], Any],
) -> None:
    failure = failure_of(function)
    assert failure.kind is FailureKind.MEMORY
    assert "batch.micro_size" in failure.advice


def test_a_gpu_out_of_memory_is_one_of_memory() -> None:
    failure = explain(torch.OutOfMemoryError("CUDA out of memory"), 0)
    assert failure.kind is FailureKind.MEMORY


def test_a_failing_storage_is_one_of_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    failure = failure_of(
        lambda: open_storage(tmp_path / "file" / "below").write_bytes("a", b"b")
    )
    assert failure.kind is FailureKind.STORAGE
    assert "check the storage" in failure.advice


def test_a_full_disk_under_an_open_file_is_one_of_storage() -> None:
    def write() -> None:
        with open("/dev/full", "wb") as file:
            file.write(b"line")

    assert failure_of(write).kind is FailureKind.STORAGE


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Mismatch("other shapes"), "undo the change to the model or optimizer"),
        (Corrupt("flipped"), "restore the checkpoint's files"),
        (ModuleNotFoundError("No module named 'timm'"), "install it"),
    ],
)
def test_errors_that_can_be_mended_say_how(error: Exception, words: str) -> None:
    failure = explain(error, 0)
    assert failure.kind is FailureKind.BUG
    assert words in failure.advice


def test_a_message_without_end_is_cut() -> None:
    failure = explain(ValueError("x" * 10_000), 0)
    assert len(str(failure)) < 500
    assert failure.cause.endswith("...")


def test_an_error_without_a_message_is_named() -> None:
    assert explain(AssertionError(), 0).cause == "AssertionError"


def run_lose_a_peer() -> WorkerFailed | None:
    """Rank 1 leaves, as a crash makes it; returns what rank 0 makes of it."""
    rank = dist.get_rank()
    dist.barrier()
    if rank == 1:
        dist.destroy_process_group()
        return None
    return failure_of(lambda: dist.all_reduce(torch.zeros(3)))


def test_a_rank_that_lost_a_peer_points_to_the_peer() -> None:
    failure, _ = run_distributed(run_lose_a_peer)
    assert failure is not None
    assert failure.kind is FailureKind.PEER_LOST
    assert str(failure).startswith("rank 0: lost another rank; see the failure of")
    assert "all_reduce" in failure.traceback


def frames(*files: str) -> str:
    return "".join(f'  File "{file}", line {n}, in f\n' for n, file in enumerate(files))


PACKAGE = Path(trainer.recovery.__file__).parent
LIBRARY = sysconfig.get_path("purelib")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["/home/me/a.py", f"{PACKAGE}/loop.py"], "/home/me/a.py:0"),
        (
            ["/home/me/a.py", "/home/me/b.py", f"{LIBRARY}/torch/x.py"],
            "/home/me/b.py:1",
        ),
        ([f"{PACKAGE}/tasks/digits.py", f"{PACKAGE}/loop.py"], "digits.py:0"),
        ([f"{PACKAGE}_extras/mine.py", f"{PACKAGE}/loop.py"], "_extras/mine.py:0"),
        ([f"{PACKAGE}/loop.py", f"{LIBRARY}/torch/x.py"], f"{LIBRARY}/torch/x.py:1"),
        (["/home/me/a.py", "<frozen importlib._bootstrap>"], "/home/me/a.py:0"),
    ],
    ids=["own", "library", "task", "neighbour", "nobody's", "frozen"],
)
def test_the_users_line_is_the_innermost_that_is_neither_a_librarys_nor_ours(
    files: list[str], expected: str
) -> None:
    found = find_user_line(frames(*files))
    assert found is not None
    assert found.endswith(expected)


def test_a_text_without_frames_has_no_line() -> None:
    assert find_user_line("ValueError: no frames") is None


def test_a_storage_error_of_the_run_is_told_as_such() -> None:
    assert explain(StorageError("503"), 0).kind is FailureKind.STORAGE
