"""Seeds that depend on what is drawn for, never on who draws: no rank, no clock.

A seed is a function of a purpose and a few integers, so that a restarted run, or one
on another number of workers, draws the same numbers without storing generator state.
"""

from __future__ import annotations

import random
from enum import IntEnum

import numpy as np
import torch

_MASK = (1 << 64) - 1


class Purpose(IntEnum):
    """Keeps the streams of different uses apart under one run seed."""

    MODEL = 1
    ORDER = 2
    SAMPLE = 3
    MICRO_BATCH = 4
    EVALUATION = 5


def mix(value: int) -> int:
    """Returns a well-mixed 64-bit integer (the finaliser of splitmix64).

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
    """
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def derive_seed(purpose: Purpose, seed: int, first: int = 0, second: int = 0) -> int:
    """Returns the 64-bit seed of one use, for example (seed, step, micro-batch)."""
    return mix(mix(mix(mix(int(purpose)) ^ (seed & _MASK)) ^ first) ^ second)


def seed_generators(seed: int) -> None:
    """Seeds the global generators of torch (CPU, and CUDA in use), numpy and Python.

    `torch.manual_seed` does the same for torch but costs some 90 us a call.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
