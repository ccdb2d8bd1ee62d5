"""Reasons to stop, from signals or a controller, and agreeing on one step to do it.

Owns no saving and no exit: it only answers, at a step boundary, what all ranks do.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType

import torch

from trainer.config import is_torchrun
from trainer.distributed import Distributed

EXIT_INTERRUPTED = 75

# One Ctrl-C can arrive twice: torchrun's agent passes on what the terminal has already
# sent to the whole process group.
_ECHO_S = 0.5
_TORCHRUN_ECHO_S = 3.0


class StopReason(IntEnum):
    """Why a run ends before its last step; of two, the larger one counts."""

    NONE = 0
    TIME_UP = 1  # duration.max_time_s
    INTERRUPTED = 2  # SIGINT, SIGTERM, a notice


class StopRequest:
    """A flag that a signal handler or another thread raises and the loop reads."""

    def __init__(self) -> None:
        self.reason = StopReason.NONE
        self.source = ""  # what asked, for the log

    def ask(self, reason: StopReason, source: str) -> None:
        """Asks for a stop at the next step boundary; the first source is kept."""
        if reason > self.reason:
            self.source = source
            self.reason = reason


@contextmanager
def stop_on_signals(request: StopRequest) -> Iterator[None]:
    """Turns SIGTERM and the first Ctrl-C into a request; a second Ctrl-C exits at once.

    Outside the main thread signals cannot be caught, and nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    echo_s = _TORCHRUN_ECHO_S if is_torchrun() else _ECHO_S
    first_at: float | None = None

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal first_at
        now = time.monotonic()
        if number == signal.SIGINT and first_at is not None and now - first_at > echo_s:
            os.write(
                2,
                b"\nstopped at once; the same words continue from the newest"
                b" checkpoint\n",
            )
            os._exit(EXIT_INTERRUPTED)
        if first_at is None:
            first_at = now
        request.ask(StopReason.INTERRUPTED, signal.Signals(number).name)

    previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Agreement:
    """What all ranks do at a step boundary, decided from what any of them asks.

    With several ranks the question of one boundary travels during the next step and is
    answered at its end, so that nobody waits; all ranks get the same answer at the same
    step. All ranks must call `decide` at every boundary.
    """

    def __init__(self, distributed: Distributed) -> None:
        self._distributed = distributed
        self._asked = torch.zeros(2, dtype=torch.int32)
        self._work: torch.distributed.Work | None = None

    def decide(
        self, reason: StopReason, *, wants_save: bool
    ) -> tuple[StopReason, bool]:
        """Returns the agreed reason to stop and whether to save at this boundary."""
        if self._distributed.world_size == 1:
            return reason, wants_save
        agreed, should_save = self._answer()
        asks_save = wants_save and not should_save
        self._asked = torch.tensor([reason, asks_save], dtype=torch.int32)
        self._work = self._distributed.start_max(self._asked)
        return agreed, should_save

    def close(self) -> None:
        """Waits for the last question. All ranks must call this."""
        self._answer()

    def _answer(self) -> tuple[StopReason, bool]:
        if self._work is None:
            return StopReason.NONE, False
        self._work.wait()
        self._work = None
        reason, wants_save = self._asked.tolist()
        return StopReason(reason), bool(wants_save)
