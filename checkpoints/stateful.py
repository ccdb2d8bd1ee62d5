"""What can be saved: the `Stateful` protocol, and the random generators as one.

Must never know how or where state is written.
"""

from __future__ import annotations

import logging
import random
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

_log = logging.getLogger(__name__)


@runtime_checkable
class Stateful(Protocol):
    """An object that gives its state and takes it back, as torch's objects do."""

    def state_dict(self) -> Any:
        """Returns the state; called on every rank, at each save and restore."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Takes a saved state; called on every rank, once per restore."""


class RngState:
    """The global random generators of Python, numpy and torch, CUDA's when in use.

    For a loop of one's own: put `RngState()` into the state. Every rank gets rank 0's.
    """

    def state_dict(self) -> dict[str, object]:
        state: dict[str, object] = {
            "python": random.getstate(),
            "numpy": np.random.get_state(legacy=False),
            "torch": torch.get_rng_state(),
        }
        # Asking a device that nothing uses yet would start CUDA and take its memory.
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it bare
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        random.setstate(state_dict["python"])
        np.random.set_state(state_dict["numpy"])
        torch.set_rng_state(state_dict["torch"])
        devices = state_dict.get("cuda", [])
        usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
        for index, device_state in enumerate(devices[:usable]):
            torch.cuda.set_rng_state(device_state, index)
        if len(devices) > usable:
            _log.warning(
                "random state of %d CUDA devices was saved, %d are here: the others' "
                "is left out; resume on as many to repeat their numbers",
                len(devices),
                usable,
            )
