"""Progress for people: a live line on a terminal, plain lines anywhere else.

Writes to standard error, so that standard output holds only the result.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.logging.progress import Snapshot

_PLAIN_INTERVAL_S = 10.0
_MAX_CHARS = 78  # of a terminal's 80; of 100 beside the bar


def format_duration(seconds: float) -> str:
    """Returns a duration as people write it: 42s, 3m05s, 2h07m, 5d03h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def describe(snapshot: Snapshot) -> str:
    """Returns a snapshot as one line; evaluation metrics take the room that is left."""
    total = "" if snapshot.last_step is None else f"/{snapshot.last_step}"
    words = [f"step {snapshot.step}{total}"]
    if snapshot.loss is not None:
        words.append(f"loss {snapshot.loss:.4f}")
    if snapshot.samples_per_s is not None:
        words.append(f"{snapshot.samples_per_s:,.0f}/s")
    if snapshot.seconds_left is not None:
        words.append(f"{format_duration(snapshot.seconds_left)} left")
    if snapshot.checkpoint_step is not None:
        words.append(f"saved {snapshot.checkpoint_step}")
    for name, value in (snapshot.eval_metrics or {}).items():
        word = f"{name} {value:.4f}"
        if len("  ".join([*words, word])) <= _MAX_CHARS:
            words.append(word)
    return "  ".join(words)


class ConsoleDisplay:
    """Shows snapshots while it is entered as a context.

    Args:
        console: where to write; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._printed_at: float | None = None
        self._newest: Snapshot | None = None
        self._printed: Snapshot | None = None

    def __enter__(self) -> ConsoleDisplay:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, auto_refresh=False, redirect_stdout=False
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._newest is not None and self._newest != self._printed:
            self._print(self._newest)

    def show(self, snapshot: Snapshot) -> None:
        """Takes the newest snapshot; draws it now or when the next line is due."""
        self._newest = snapshot
        if self._live is not None:
            self._live.update(self._row(snapshot), refresh=True)
            return
        now = time.monotonic()
        if self._printed_at is None or now - self._printed_at >= _PLAIN_INTERVAL_S:
            self._printed_at = now
            self._print(snapshot)

    def _print(self, snapshot: Snapshot) -> None:
        self._printed = snapshot
        self._console.print(describe(snapshot), highlight=False, soft_wrap=True)

    def _row(self, snapshot: Snapshot) -> Table | Text:
        line = Text(describe(snapshot), no_wrap=True, overflow="ellipsis")
        if snapshot.last_step is None or self._console.width < 100:
            return line
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=snapshot.last_step, completed=snapshot.step, width=20)
        row.add_row(bar, line)
        return row
