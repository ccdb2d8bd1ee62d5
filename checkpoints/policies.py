"""Which committed steps stay. Pure: numbers in, numbers out; no files, no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping

from checkpoints.choices import Mode


def best_steps(metrics: Mapping[int, float | None], mode: Mode) -> list[int]:
    """Returns the steps that have a finite metric, best first.

    Of equal ones the earlier step comes first, because the later brought nothing.

    Args:
        metrics: Step to the metric's value, None where it was not measured.
        mode: Whether a smaller or a larger value is better.
    """
    sign = 1.0 if mode is Mode.MIN else -1.0
    known = [
        (sign * value, step)
        for step, value in metrics.items()
        if value is not None and math.isfinite(value)
    ]
    return [step for _, step in sorted(known)]


def steps_to_keep(
    metrics: Mapping[int, float | None], *, keep_latest: int, keep_best: int, mode: Mode
) -> set[int]:
    """Returns the steps that stay: the newest, and the best by the metric.

    Args:
        metrics: Every committed step to its metric, None where there is none.
        keep_latest: How many of the newest stay, at least 1.
        keep_best: How many of the best stay.
        mode: Whether a smaller or a larger metric is better.
    """
    assert keep_latest >= 1
    latest = sorted(metrics)[-keep_latest:]
    return {*latest, *best_steps(metrics, mode)[:keep_best]}
