"""Makes training state durable and finds it again.

Knows tensors, bytes, steps and URLs; must never know models, Ray or Hydra. Stands
alone, for a loop of one's own: see `CheckpointManager`.
"""

from checkpoints.choices import Mode, Verify
from checkpoints.collective import Collective, ProcessGroupCollective, SingleProcess
from checkpoints.errors import (
    CheckpointError,
    Corrupt,
    Incomplete,
    Mismatch,
    NotFound,
    StorageError,
)
from checkpoints.handle import SaveHandle
from checkpoints.manager import CheckpointManager
from checkpoints.manifest import CheckpointInfo
from checkpoints.stateful import RngState, Stateful
from checkpoints.storage import Storage, find_files, open_storage

__all__ = [
    "CheckpointError",
    "CheckpointInfo",
    "CheckpointManager",
    "Collective",
    "Corrupt",
    "Incomplete",
    "Mismatch",
    "Mode",
    "NotFound",
    "ProcessGroupCollective",
    "RngState",
    "SaveHandle",
    "SingleProcess",
    "Stateful",
    "Storage",
    "StorageError",
    "Verify",
    "find_files",
    "open_storage",
]
