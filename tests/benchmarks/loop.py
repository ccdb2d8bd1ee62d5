"""Steps a second and the engine's cost a step, beside other loops in one run.

Owns how the contenders are measured against each other and what is printed. The
machine may be busy: they take turns, each figure is the median over the turns, and
beside the wall clock stands the time on a core.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from operator import truediv
from statistics import median

from rich.table import Table

from tests.benchmarks.contenders import (
    Contender,
    train_by_accelerate,
    train_by_engine,
    train_by_hand,
    train_by_lightning,
)
from tests.benchmarks.turns import Loop, Plan, Turn, take_turns
from tests.benchmarks.workload import Workload

BY_HAND, OURS = "by hand", "this engine"
OPTIONAL: Mapping[str, Contender] = {
    "lightning": train_by_lightning,
    "accelerate": train_by_accelerate,
}

_STEP_S = 0.005
_PROMISED_RATIO = ">= 0.98 of by hand"
_PROMISED_COST_US = "< 100"
_WIDTH = 78

Turns = dict[str, list[Turn]]  # of each loop

_CALIBRATION = Plan(num_builds=3, num_warmup=5, num_turns=10, num_steps=5)
_SPEED = Plan(num_builds=8, num_warmup=20, num_turns=20, num_steps=10)
_COST = Plan(num_builds=8, num_warmup=100, num_turns=40, num_steps=50)
_SAMPLE_COST = Plan(num_builds=4, num_warmup=20, num_turns=20, num_steps=20)


def measure(
    contenders: Mapping[str, Contender], workload: Workload, plan: Plan
) -> Turns:
    """Returns the turns of every contender on one workload."""
    loops: dict[str, Loop] = {
        name: partial(contender, workload) for name, contender in contenders.items()
    }
    return take_turns(loops, plan)


def bench_speed() -> list[Table | str]:
    """Compares steps a second on steps of about 5 ms."""
    workload = _calibrated_workload()
    contenders, absent = _contenders()
    turns = measure(contenders, workload, _SPEED)
    table = _table(
        f"speed: steps/s, two convolutions of {workload.width}; "
        f"promised: {_PROMISED_RATIO}",
        ("steps/s", "of by hand", "CPU ms a step", "of by hand"),
        absent,
    )
    for name, own in turns.items():
        step = _median(own)
        ratio = _median(_compare(turns, name, lambda a, b: Turn(*map(truediv, a, b))))
        table.add_row(
            name,
            f"{1 / step.wall_s:.1f}",
            f"{ratio.wall_s:.3f}",
            f"{step.cpu_s * 1e3:.2f}",
            f"{ratio.cpu_s:.3f}",
        )
    return [table]


def bench_cost() -> list[Table | str]:
    """Finds what a step costs beyond a hand-written one, on a nearly empty model."""
    contenders, absent = _contenders()
    turns = measure(contenders, Workload(width=0), _COST)
    table = _table(
        "cost: microseconds a step, one linear layer; "
        f"promised: {_PROMISED_COST_US} more",
        ("a step", "more", "CPU a step", "more"),
        absent,
    )
    for name, own in turns.items():
        step, cost = _median(own), _cost(turns, name)
        seconds = step.wall_s, cost.wall_s, step.cpu_s, cost.cpu_s
        table.add_row(name, *(f"{value * 1e6:.0f}" for value in seconds))
    return [table, _sample_cost()]


def _sample_cost() -> str:
    pair = {BY_HAND: train_by_hand, OURS: train_by_engine}
    workload = Workload(width=0, is_read_batched=False)
    cost = _cost(measure(pair, workload, _SAMPLE_COST), OURS) / workload.batch_size
    return (
        "Read sample by sample (no __getitems__), every sample is seeded: "
        f"{cost.wall_s * 1e6:.1f} us more\na sample, {cost.cpu_s * 1e6:.1f} of CPU."
    )


def _calibrated_workload() -> Workload:
    workload = Workload(width=32)
    for _ in range(4):
        step = _median(
            measure({BY_HAND: train_by_hand}, workload, _CALIBRATION)[BY_HAND]
        )
        width = round(workload.width * math.sqrt(_STEP_S / step.cpu_s))
        workload = replace(workload, width=max(1, width))
    return workload


def _contenders() -> tuple[dict[str, Contender], list[str]]:
    """Returns those that are installed, and the names of the others."""
    found: dict[str, Contender] = {BY_HAND: train_by_hand, OURS: train_by_engine}
    absent = []
    for name, contender in OPTIONAL.items():
        try:
            module = import_module(name)
        except ImportError:
            absent.append(name)
        else:
            found[f"{name} {module.__version__}"] = contender
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    return found, absent


def _compare(
    turns: Turns, name: str, compare: Callable[[Turn, Turn], Turn]
) -> list[Turn]:
    """Returns each turn of by hand beside the next one of another loop."""
    return [compare(a, b) for a, b in zip(turns[BY_HAND], turns[name], strict=True)]


def _cost(turns: Turns, name: str) -> Turn:
    return _median(_compare(turns, name, lambda by_hand, other: other - by_hand))


def _median(turns: list[Turn]) -> Turn:
    return Turn(median(t.wall_s for t in turns), median(t.cpu_s for t in turns))


def _table(title: str, columns: tuple[str, ...], absent: list[str]) -> Table:
    table = Table(title=title, title_justify="left", width=_WIDTH)
    table.add_column("loop")
    for column in columns:
        table.add_column(column, justify="right")
    if absent:
        table.caption = f"not installed: {', '.join(absent)}"
    return table
