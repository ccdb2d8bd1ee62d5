"""A small state, and a hand on the files of its committed steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from checkpoints import CheckpointManager


def state(value: float = 0.0) -> dict[str, Any]:
    return {"x": torch.full((100,), float(value)), "progress": {"step": int(value)}}


def save_steps(manager: CheckpointManager, *steps: int) -> None:
    for step in steps:
        manager.save(step, state(step)).wait()


def step_dir(manager: CheckpointManager, step: int) -> Path:
    [info] = [info for info in manager.infos() if info.step == step]
    return Path(info.url)


def data_file(manager: CheckpointManager, step: int) -> Path:
    [path] = step_dir(manager, step).glob("*-rank0000.bin")
    return path


def flip_a_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)
