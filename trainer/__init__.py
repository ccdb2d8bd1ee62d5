"""Trains a model on one process or many, and survives every interruption.

`load_config` and the errors need neither torch nor Ray; the rest is imported when it
is first used, so that a bad configuration is answered at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainer.config import TrainConfig, load_config
from trainer.errors import (
    ConfigError,
    Fault,
    ResumeError,
    RunLocked,
    TrainerError,
    WorkerFailed,
)
from trainer.result import Status, TrainResult

if TYPE_CHECKING:
    from trainer.callbacks import Callback, StepReport
    from trainer.launch import train
    from trainer.task import DataSets, TrainTask

__all__ = [
    "Callback",
    "ConfigError",
    "DataSets",
    "Fault",
    "ResumeError",
    "RunLocked",
    "Status",
    "StepReport",
    "TrainConfig",
    "TrainResult",
    "TrainTask",
    "TrainerError",
    "WorkerFailed",
    "load_config",
    "train",
]

_HOMES = {
    "Callback": "trainer.callbacks",
    "DataSets": "trainer.task",
    "StepReport": "trainer.callbacks",
    "TrainTask": "trainer.task",
    "train": "trainer.launch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
