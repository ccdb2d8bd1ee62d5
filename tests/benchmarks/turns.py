"""Several loops in one process that take turns of a few steps, each one timed.

Owns whose turn it is and how long each took, by the wall clock and in time on a core. A
turn is short, so that whatever else the machine does slows all loops alike. Knows
nothing of what the loops do in a step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

# Runs a number of steps and calls its second argument after each.
Loop = Callable[[int, Callable[[], None]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How often and how long the loops run.

    Every loop is built anew several times, because where its tensors happen to lie in
    memory alone moves its speed by some percent.
    """

    num_builds: int
    num_warmup: int  # steps of a build before its first turn
    num_turns: int  # of a build
    num_steps: int  # of a turn

    @property
    def num_steps_of_build(self) -> int:
        return self.num_warmup + self.num_steps * self.num_turns


class Turn(NamedTuple):
    """Seconds a step of one turn."""

    wall_s: float
    cpu_s: float  # of the loop's thread: what others run beside it does not count

    def __sub__(self, other: Turn) -> Turn:
        return Turn(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)

    def __truediv__(self, divisor: float) -> Turn:
        return Turn(self.wall_s / divisor, self.cpu_s / divisor)


def take_turns(loops: Mapping[str, Loop], plan: Plan) -> dict[str, list[Turn]]:
    """Returns the turns of every loop.

    The loops run in threads of their own, one at a time: A B A B. Whatever a loop does
    before its first and after its last turn is not timed.

    Raises:
        Exception: what a loop raised; the others are then stopped.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in loops}
    for _ in range(plan.num_builds):
        for runner in _run_build(loops, plan):
            turns[runner.name] += runner.turns
    return turns


def _run_build(loops: Mapping[str, Loop], plan: Plan) -> list[_Runner]:
    relay = _Relay(plan, [threading.Semaphore(0) for _ in loops])
    runners = [
        _Runner(relay, number, name, loop)
        for number, (name, loop) in enumerate(loops.items())
    ]
    for runner in runners:
        runner.start()
    relay.hand_to(0)
    for runner in runners:
        runner.join()
    if relay.errors:
        raise relay.errors[0]
    return runners


class _Stopped(Exception):
    """Another loop has failed."""


@dataclass(frozen=True, slots=True)
class _Relay:
    plan: Plan
    turns: list[threading.Semaphore]  # one for each loop; released: it may run
    errors: list[Exception] = field(default_factory=list)

    def hand_to(self, number: int) -> None:
        self.turns[number % len(self.turns)].release()

    def wait(self, number: int) -> None:
        self.turns[number].acquire()
        if self.errors:
            raise _Stopped


class _Runner(threading.Thread):
    """Runs one loop whenever it is its turn."""

    def __init__(self, relay: _Relay, number: int, name: str, loop: Loop) -> None:
        super().__init__(name=name, daemon=True)
        self.turns: list[Turn] = []
        self._relay = relay
        self._number = number
        self._loop = loop
        self._num_done = 0
        self._start = _now()

    def run(self) -> None:
        try:
            self._relay.wait(self._number)
            torch.set_num_threads(1)  # each thread has a setting of its own
            self._loop(self._relay.plan.num_steps_of_build, self._on_step)
            assert self._num_done == self._relay.plan.num_steps_of_build, self.name
        except Exception as error:  # noqa: BLE001  the main thread raises the first
            self._relay.errors.append(error)
        self._relay.hand_to(self._number + 1)

    def _on_step(self) -> None:
        plan = self._relay.plan
        self._num_done += 1
        num_timed = self._num_done - plan.num_warmup
        if num_timed < 0 or num_timed % plan.num_steps != 0:
            return
        if num_timed > 0:
            self.turns.append((_now() - self._start) / plan.num_steps)
        self._relay.hand_to(self._number + 1)
        self._relay.wait(self._number)
        self._start = _now()


def _now() -> Turn:
    return Turn(time.perf_counter(), time.thread_time())
