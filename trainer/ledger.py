"""Where the wall clock went: seconds by phase, which sum to the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class Phase(StrEnum):
    """What the run is doing; one at any moment."""

    STARTUP = "startup"  # process start to the first step, reading a checkpoint too
    TRAIN = "train"
    EVALUATE = "evaluate"
    CHECKPOINT = "checkpoint"  # the loop waits for a save
    LOST = "lost"  # time of earlier attempts after the checkpoint that was restored
    UNKNOWN = "unknown"  # of a run that failed: its split died with its process


class Ledger:
    """Gives every second to one phase, from construction on.

    Args:
        started_at: `time.monotonic()` at which the first phase began.
    """

    def __init__(self, started_at: float | None = None) -> None:
        self._seconds = dict.fromkeys(Phase, 0.0)
        self._phase = Phase.STARTUP
        self._since = time.monotonic() if started_at is None else started_at

    def enter(self, phase: Phase) -> None:
        """Ends the current phase and begins another."""
        now = time.monotonic()
        self._seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Spends the time inside on `phase`, then goes back to the one before."""
        before = self._phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def add(self, seconds: dict[str, float]) -> None:
        """Adds what earlier attempts spent, by phase."""
        for name, value in seconds.items():
            self._seconds[Phase(name)] += value

    def totals(self) -> dict[str, float]:
        """Returns the seconds by phase up to now; their sum is the wall time."""
        self.enter(self._phase)
        return {str(phase): value for phase, value in self._seconds.items()}
