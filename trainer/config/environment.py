"""What the machine and the launcher tell a process, read without torch.

Facts only; what follows from them is in the rules.
"""

from __future__ import annotations

import os
from pathlib import Path

_TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_NVIDIA_PATHS = ("/dev/nvidia0", "/proc/driver/nvidia/version")


def is_torchrun() -> bool:
    """Returns whether a launcher such as torchrun described a rank to this process."""
    return all(name in os.environ for name in _TORCHRUN_VARIABLES)


def launched_world_size() -> int:
    """Returns the number of ranks that the launcher started; 1 without a launcher."""
    return int(os.environ["WORLD_SIZE"]) if is_torchrun() else 1


def has_nvidia_device() -> bool:
    """Returns whether this machine shows an NVIDIA GPU."""
    return any(Path(path).exists() for path in _NVIDIA_PATHS)
