"""The errors of `trainer`.

TrainerError
├── ConfigError      the words or files given cannot be a training run (exit code 2)
│   └── ResumeError  the run's folder holds a run that these words do not continue
├── RunLocked        another live process is training this run
└── WorkerFailed     a rank raised; carries which, where and what to do (exit code 1)

An interruption is no error: the run returns a result with status `preempted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class TrainerError(Exception):
    """Base of every error that this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a configuration, and the words that mend it."""

    path: str  # dotted path, for example batch.global_size
    value: object  # what was given
    rule: str  # what must hold
    remedy: str  # the override to type

    def __str__(self) -> str:
        return f"{self.path}={self.value}: {self.rule}; {self.remedy}"


class ConfigError(TrainerError):
    """Raised before any work when the configuration has faults; names all of them."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)


class ResumeError(ConfigError):
    """Raised when the folder's run differs in configuration or data, or is missing."""


class RunLocked(TrainerError):
    """Raised when another live process holds the run's folder."""


class FailureKind(StrEnum):
    """What sort of failure ended a rank."""

    BUG = "bug"  # the same code on the same data fails again
    MEMORY = "memory"
    STORAGE = "storage"
    PEER_LOST = "peer_lost"  # another rank went first; its failure is the cause


class WorkerFailed(TrainerError):
    """Raised when a rank failed: what happened, on which rank, where, what to do."""

    def __init__(
        self,
        *,
        rank: int,
        kind: FailureKind,
        cause: str,
        where: str | None,
        advice: str,
        traceback: str,
    ) -> None:
        self.rank = rank
        self.kind = kind
        self.cause = cause
        self.where = where
        self.advice = advice
        self.traceback = traceback
        place = f" at {where}" if where else ""
        super().__init__(f"rank {rank}: {cause}{place}; {advice}")

    def __reduce__(self) -> tuple[object, ...]:
        names = ("rank", "kind", "cause", "where", "advice", "traceback")
        return _rebuild_worker_failed, ({name: getattr(self, name) for name in names},)


def _rebuild_worker_failed(fields: dict[str, Any]) -> WorkerFailed:
    return WorkerFailed(**fields)
