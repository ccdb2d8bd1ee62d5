"""What failed, where in the user's code, and what to do: one line for any exception."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import re
import sysconfig
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from checkpoints import CheckpointError, Mismatch, StorageError
from trainer import history
from trainer.errors import FailureKind, WorkerFailed
from trainer.ledger import Phase
from trainer.result import Status, TrainResult
from trainer.run_folder import METRICS, RECORD_KEYS, RESULT, RunFolder, read_json_lines

logger = logging.getLogger(__name__)

_LOST_PEER = "lost another rank"
_STAMP = "%Y%m%d-%H%M%S"
_MAX_CAUSE_CHARS = 300
_PEER_WAIT_S = 3.0
_PEER_LOST = re.compile(
    r"gloo|connection (closed|reset)|broken pipe|timed out waiting|socket",
    re.IGNORECASE,
)
# torch raises these as plain RuntimeErrors: a CPU tensor that found no memory, and a
# loader process that the machine killed, mostly for its memory.
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|DataLoader worker .*exited")
# What starting a loader process raises for a class or function inside a function.
_UNPICKLABLE = (pickle.PicklingError, AttributeError, TypeError)
_STORAGE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE}
_FRAME = re.compile(r'^\s*File "(?P<file>.+?)", line (?P<line>\d+)', re.MULTILINE)
_OWN_DIRS = tuple(
    f"{Path(__file__).resolve().parent.parent / name}{os.sep}"
    for name in ("trainer", "checkpoints")
)
_LIBRARY_DIRS = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    "<frozen",
)
_TASKS_DIR = str(Path(__file__).resolve().parent / "tasks")

_ADVICE = {
    FailureKind.BUG: "mend it and start the same words again",
    FailureKind.MEMORY: "set a smaller batch.micro_size; the global batch stays",
    FailureKind.STORAGE: "check the storage, then the same words continue",
    FailureKind.PEER_LOST: "see the failure of the other rank; the same words continue",
}


def explain(error: Exception, rank: int) -> WorkerFailed:
    """Returns what a rank's exception means to the person who started the run."""
    text = "".join(traceback.format_exception(error))
    kind = classify(error)
    is_lost = kind is FailureKind.PEER_LOST
    return WorkerFailed(
        rank=rank,
        kind=kind,
        cause=_LOST_PEER if is_lost else _cause(error),
        where=None if is_lost else find_user_line(text),
        advice=_advice(error, kind),
        traceback=text,
    )


def classify(error: Exception) -> FailureKind:
    """Returns the sort of a failure, from the exception alone."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return FailureKind.MEMORY
    if type(error) is RuntimeError and _OUT_OF_MEMORY.search(str(error)):
        return FailureKind.MEMORY
    if isinstance(error, StorageError) or (
        isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS
    ):
        return FailureKind.STORAGE
    if isinstance(error, dist.DistError):
        return FailureKind.PEER_LOST
    # torch raises gloo's transport errors as plain RuntimeErrors.
    if type(error) is RuntimeError and _PEER_LOST.search(str(error)):
        return FailureKind.PEER_LOST
    return FailureKind.BUG


def _advice(error: Exception, kind: FailureKind) -> str:
    if isinstance(error, Mismatch):
        return "undo the change to the model or optimizer, or give another name="
    if isinstance(error, CheckpointError) and kind is not FailureKind.STORAGE:
        return "restore the checkpoint's files, or give another name="
    if isinstance(error, ModuleNotFoundError):
        return "install it, or correct the name"
    if "pickle" in str(error) and isinstance(error, _UNPICKLABLE):
        return (
            "define what loader processes need at the top of a module, or set "
            "loader.start_method=fork"
        )
    if type(error) is RuntimeError and "DataLoader worker" in str(error):
        return "set fewer loader.num_workers or give the machine more (shared) memory"
    return _ADVICE[kind]


def _cause(error: Exception) -> str:
    name, message = type(error).__name__, str(error)
    if "Original Traceback" in message:  # raised in a loader process: as text only
        ending = message.rpartition("Traceback (most recent call last):")[2]
        lines = [line for line in ending.splitlines() if line[:1].strip()]
        name, _, message = (lines or [name])[0].partition(": ")
    first = message.strip().splitlines()[0] if message.strip() else ""
    cause = f"{name}: {first}" if first else name
    return cause if len(cause) <= _MAX_CAUSE_CHARS else cause[:_MAX_CAUSE_CHARS] + "..."


def find_user_line(text: str) -> str | None:
    """Returns file:line of the innermost frame that is not a library's or ours."""
    frames = [(match["file"], match["line"]) for match in _FRAME.finditer(text)]
    for file, line in reversed(frames):
        is_task = file.startswith(_TASKS_DIR)
        if is_task or not file.startswith(_OWN_DIRS + _LIBRARY_DIRS):
            return f"{file}:{line}"
    return f"{frames[-1][0]}:{frames[-1][1]}" if frames else None


def record_failure(
    folder: RunFolder, failure: WorkerFailed, *, is_recorder: bool, since: float
) -> None:
    """Writes a failure into the run's folder.

    Every rank leaves its traceback; the recorder adds the event and the result. A
    recorder that only lost a peer waits shortly for the peer's own words.

    Args:
        folder: the run's folder.
        failure: this rank's.
        is_recorder: whether this is rank 0, or the driver in its place.
        since: Unix time of the attempt's start.
    """
    try:
        name = _write_traceback(folder, failure)
        if is_recorder:
            facts = _find_peer(folder, failure, since) or {
                "rank": failure.rank,
                "message": str(failure),
                "file": name,
            }
            folder.add_event("failure", **facts)
            folder.write_json(RESULT, _failed_result(folder).to_json())
    except (CheckpointError, OSError) as error:  # the storage may be what failed
        logger.error("could not record the failure in the run's folder: %s", error)


def _write_traceback(folder: RunFolder, failure: WorkerFailed) -> str:
    stamp = time.strftime(_STAMP, time.gmtime())
    name = f"failures/{stamp}-rank{failure.rank:04d}.txt"
    folder.write_text(name, f"{failure}\n\n{failure.traceback}")
    return name


def _find_peer(
    folder: RunFolder, failure: WorkerFailed, since: float
) -> dict[str, Any] | None:
    """Returns the failure of a rank that went first, if this rank only lost it."""
    stamp = time.strftime(_STAMP, time.gmtime(since))
    deadline = time.monotonic() + _PEER_WAIT_S
    while failure.kind is FailureKind.PEER_LOST and time.monotonic() < deadline:
        for name in folder.storage.list("failures"):
            file = f"failures/{name}"
            message = folder.storage.read_bytes(file).decode().partition("\n")[0]
            if name >= stamp and _LOST_PEER not in message:
                rank = int(name.removesuffix(".txt").rpartition("rank")[2])
                return {"rank": rank, "message": message, "file": file}
        time.sleep(0.1)
    return None


def _failed_result(folder: RunFolder) -> TrainResult:
    """Returns what the files tell; counters and split died with the process."""
    events = folder.events()
    metrics = read_json_lines(folder.storage, METRICS)
    saved = [event for event in events if event["event"] == "checkpoint_saved"]
    seconds = history.seconds_alive(events, metrics)
    newest: dict[str, float] = {}
    for line in metrics:
        newest |= {
            f"{line['split']}/{name}": value
            for name, value in line.items()
            if name not in RECORD_KEYS
        }
    return TrainResult(
        status=Status.FAILED,
        name=folder.name,
        run_url=folder.url,
        step=max((line["step"] for line in metrics), default=0),
        samples_seen=max((line["samples"] for line in metrics), default=0),
        metrics=newest,
        best=None,
        model_digest=None,
        checkpoint_url=saved[-1]["url"] if saved else None,
        wall_time_s=seconds,
        num_restarts=history.num_restarts(events),
        num_preemptions=history.count(events, "preempted"),
        steps_lost=history.steps_lost(events),
        ledger={str(Phase.UNKNOWN): seconds},
        failures=history.failures(events),
    )
