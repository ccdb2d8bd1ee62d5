"""Errors travel between processes whole, and their messages say what to do."""

from __future__ import annotations

import pickle

import pytest

from trainer.errors import (
    ConfigError,
    FailureKind,
    Fault,
    ResumeError,
    RunLocked,
    TrainerError,
    WorkerFailed,
)

FAULTS = (
    Fault(path="seed", value=-1, rule="must be >= 0", remedy="seed=0"),
    Fault(path="name", value=None, rule="must be given", remedy="name=mine"),
)
FAILED = WorkerFailed(
    rank=3,
    kind=FailureKind.MEMORY,
    cause="MemoryError",
    where="task.py:7",
    advice="set a smaller batch.micro_size",
    traceback="Traceback ...",
)


@pytest.mark.parametrize(
    "error",
    [
        TrainerError("words"),
        RunLocked("taken"),
        ConfigError(FAULTS),
        ResumeError(FAULTS),
        FAILED,
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_comes_out_of_a_pickle_as_it_went_in(error: TrainerError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_a_configuration_error_has_a_line_for_every_fault() -> None:
    assert str(ConfigError(FAULTS)).splitlines() == [
        "seed=-1: must be >= 0; seed=0",
        "name=None: must be given; name=mine",
    ]


def test_a_failed_worker_says_who_what_where_and_what_to_do() -> None:
    assert str(FAILED) == (
        "rank 3: MemoryError at task.py:7; set a smaller batch.micro_size"
    )


def test_a_failure_without_a_place_names_none() -> None:
    error = WorkerFailed(
        rank=0,
        kind=FailureKind.PEER_LOST,
        cause="lost another rank",
        where=None,
        advice="see the other",
        traceback="",
    )
    assert str(error) == "rank 0: lost another rank; see the other"
