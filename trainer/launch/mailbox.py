"""How the driver and the ranks on Ray talk: progress comes up, a stop goes down.

A report to Ray Train waits for its controller's poll, so metrics at step rate do not
fit through; a small actor does it.
"""

from __future__ import annotations

import threading
from typing import Any

import ray

from trainer.errors import TrainerError
from trainer.logging.progress import Snapshot
from trainer.preemption import StopReason, StopRequest

_INTERVAL_S = 0.5


class Mailbox:
    """Holds the newest progress, the failures of ranks, and a request to stop."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._failures: list[TrainerError] = []
        self._stop = (StopReason.NONE, "")
        self._num_starts = 0

    def start(self) -> int:
        """Counts a start of the workers; called by rank 0."""
        self._num_starts += 1
        return self._num_starts

    def exchange(self, snapshot: Snapshot | None) -> tuple[StopReason, str]:
        """Takes progress from rank 0; returns what was asked of the ranks."""
        self._snapshot = snapshot
        return self._stop

    def look(self) -> tuple[Snapshot | None, list[TrainerError], int]:
        return self._snapshot, self._failures, self._num_starts

    def ask_stop(self, reason: StopReason, source: str) -> None:
        self._stop = (reason, source)

    def add_failure(self, failure: TrainerError) -> None:
        self._failures.append(failure)


class Link:
    """Rank 0's line to the driver: sends progress, receives a stop, on a thread."""

    def __init__(self, mailbox: Any, stop: StopRequest) -> None:
        self._mailbox = mailbox
        self._stop = stop
        self._snapshot: Snapshot | None = None
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    def show(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            is_last = self._is_closed.wait(_INTERVAL_S)
            try:
                reason, source = ray.get(self._mailbox.exchange.remote(self._snapshot))
            except ray.exceptions.RayError:  # the driver is gone, and soon are we
                return
            if reason:
                self._stop.ask(StopReason(reason), source)
            if is_last:
                return
