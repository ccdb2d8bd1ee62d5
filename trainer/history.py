"""What earlier attempts of a run did, read from its events and metrics.

`events.jsonl` is never cut, so counts survive any kill. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

Record = dict[str, Any]

# An attempt's first events, each with those of the same attempt just before it.
_BEGINNING: dict[str, tuple[str, ...]] = {
    "run_started": (),
    "restored": ("run_started",),
    "workers_started": ("run_started", "restored"),
}


def count(events: Sequence[Record], event: str) -> int:
    """Returns how often an event happened."""
    return sum(record["event"] == event for record in events)


def num_restarts(events: Sequence[Record]) -> int:
    """Returns how often workers were started again."""
    return max(0, count(events, "workers_started") - 1)


def steps_lost(events: Sequence[Record]) -> int:
    """Returns the logged steps that attempts had to repeat, all told."""
    return sum(r["steps_lost"] for r in events if r["event"] == "restored")


def seconds_lost(events: Sequence[Record]) -> float:
    """Returns the time of attempts that no checkpoint kept, all told."""
    return sum((r["lost_s"] for r in events if r["event"] == "restored"), 0.0)


def last_logged_step(metrics: Sequence[Record]) -> int:
    """Returns the newest step with training metrics, 0 when there is none."""
    return max((r["step"] for r in metrics if r["split"] == "train"), default=0)


def unsaved_seconds(
    events: Sequence[Record], metrics: Sequence[Record], saved_at: float
) -> float:
    """Returns how long attempts ran after `saved_at` and were not counted as lost yet.

    Args:
        events: all events before the current attempt's workers started.
        metrics: all metric lines.
        saved_at: Unix time of the checkpoint that is continued from, or 0.
    """
    counted = [r["time"] for r in events if r["event"] == "restored"]
    return seconds_alive(events, metrics, since=max([saved_at, *counted]))


def seconds_alive(
    events: Sequence[Record], metrics: Sequence[Record], since: float = 0.0
) -> float:
    """Returns how long attempts ran after `since`, as far as they wrote anything.

    Pauses between attempts do not count.
    """
    starts = _attempt_starts(events)
    signs = sorted(r["time"] for r in (*events, *metrics) if r["time"] > since)
    total = 0.0
    for start, end in pairwise([*starts, float("inf")]):
        inside = [sign for sign in signs if start <= sign < end]
        if inside:
            total += inside[-1] - max(start, since)
    return total


def _attempt_starts(events: Sequence[Record]) -> list[float]:
    """Returns when each attempt began: a launch, or workers that were started again."""
    starts = []
    before = None
    for record in events:
        name = record["event"]
        if name in _BEGINNING and before not in _BEGINNING[name]:
            starts.append(record["time"])
        before = name
    return starts


def failures(events: Sequence[Record]) -> list[Record]:
    """Returns the facts of every failure, oldest first."""
    return [
        {key: value for key, value in record.items() if key != "event"}
        for record in events
        if record["event"] == "failure"
    ]
