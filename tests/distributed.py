"""Runs a function on real gloo ranks from an ordinary test.

Owns the ranks' processes: whatever happens, none of them outlives the call.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

_START_S = 60.0  # what the ranks get to import torch and meet
_DUMP_S = 0.5  # what a stuck rank gets to write where it stands
_STARTED = b""  # a rank's first message


def run_distributed(
    run_x: Callable[..., T],
    world_size: int = 2,
    *args: object,
    timeout_s: float = 60.0,
) -> list[T]:
    """Returns what `run_x(*args)` returned on each rank, in the order of the ranks.

    Args:
        run_x: a function at the top of a module; it finds an initialised gloo process
            group.
        world_size: number of processes.
        args: passed on; they and the results travel by pickle.
        timeout_s: from the moment that the ranks have met.

    Raises:
        TimeoutError: when a rank takes longer; says where each stood.
        Exception: the first that a rank raised, its traceback as a note.
    """
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            _start(_Job(run_x, args, rank, world_size, folder, timeout_s))
            for rank in range(world_size)
        ]
        try:
            return _collect(ranks, timeout_s)
        finally:
            for rank in ranks:
                rank.stop()


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[..., object]
    args: tuple[object, ...]
    rank: int
    world_size: int
    folder: str
    timeout_s: float

    @property
    def stack_file(self) -> Path:
        return Path(self.folder, f"stack-{self.rank}.txt")


@dataclass(frozen=True, slots=True)
class _Rank:
    job: _Job
    process: SpawnProcess
    connection: Connection

    def stop(self) -> None:
        # Closing our end is what a rank that has sent its result waits for.
        self.connection.close()
        self.process.join(1.0)
        if self.process.is_alive():
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for child in children:
                child.kill()
            self.process.join()
        self.process.close()


@dataclass(frozen=True, slots=True)
class _Failure:
    time: float  # of the monotonic clock, which all processes share
    error: bytes  # a pickled exception
    traceback: str


def _start(job: _Job) -> _Rank:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    # Pickled here, because multiprocessing would share the memory of tensors, which
    # ends with the process that holds it.
    process = context.Process(target=_run_rank, args=(theirs, pickle.dumps(job)))
    process.start()
    theirs.close()
    return _Rank(job, process, ours)


def _collect(ranks: list[_Rank], timeout_s: float) -> list[T]:
    deadline = time.monotonic() + _START_S
    results: dict[int, T] = {}
    while len(results) < len(ranks):
        waiting = {r.connection: r for r in ranks if r.job.rank not in results}
        ready = wait(list(waiting), timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(_where_they_stand(list(waiting.values()), timeout_s))
        failures = []
        for rank in [waiting[c] for c in ready if isinstance(c, Connection)]:
            answer = _receive(rank)
            if isinstance(answer, _Failure):
                failures.append((answer.time, rank.job.rank, answer))
            elif answer == _STARTED:
                deadline = time.monotonic() + timeout_s
            else:
                results[rank.job.rank] = pickle.loads(answer)
        if failures:
            # A rank's end breaks the connections of the others: the first is the cause.
            _, number, failure = min(failures, key=lambda item: item[:2])
            error = pickle.loads(failure.error)
            error.add_note(f"raised on rank {number}:\n{failure.traceback}")
            raise error
    return [results[rank.job.rank] for rank in ranks]


def _receive(rank: _Rank) -> bytes | _Failure:
    try:
        answer: bytes | _Failure = rank.connection.recv()
    except EOFError:
        rank.process.join(5.0)
        error = RuntimeError(
            f"rank {rank.job.rank} ended with exit code {rank.process.exitcode} "
            "before it had a result"
        )
        return _Failure(time.monotonic(), pickle.dumps(error), "no traceback")
    return answer


def _where_they_stand(ranks: list[_Rank], timeout_s: float) -> str:
    for rank in ranks:
        if rank.job.stack_file.exists():  # otherwise the signal would end it
            os.kill(rank.process.pid or 0, signal.SIGUSR1)
    time.sleep(_DUMP_S)
    lines = [f"ranks {[r.job.rank for r in ranks]} did not end within {timeout_s} s"]
    for rank in ranks:
        stack = rank.job.stack_file
        text = stack.read_text() if stack.exists() else "it had not started\n"
        lines.append(f"rank {rank.job.rank}:\n{text}")
    return "\n".join(lines)


def _run_rank(connection: Connection, pickled_job: bytes) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        answer: bytes | _Failure = pickle.dumps(
            _run_job(pickle.loads(pickled_job), connection)
        )
    except BaseException as error:  # noqa: BLE001 - the caller raises it again
        answer = _Failure(time.monotonic(), _pickle_error(error), _format(error))
    connection.send(answer)
    # The others may still need this rank's connections.
    try:
        connection.recv()
    except EOFError:
        return


def _run_job(job: _Job, connection: Connection) -> object:
    with job.stack_file.open("w") as stack_file:
        faulthandler.register(signal.SIGUSR1, stack_file)
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{job.folder}/store",
            rank=job.rank,
            world_size=job.world_size,
            timeout=timedelta(seconds=_START_S + job.timeout_s),
        )
        connection.send(_STARTED)
        try:
            return job.run(*job.args)
        finally:
            faulthandler.unregister(signal.SIGUSR1)


def _pickle_error(error: BaseException) -> bytes:
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:  # noqa: BLE001 - an exception's own pickling may raise anything
        return pickle.dumps(RuntimeError(repr(error)))
    return pickled


def _format(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
