"""The benchmarks measure what they say: every loop takes its steps, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.benchmarks.contenders import train_by_engine, train_by_hand
from tests.benchmarks.loop import measure
from tests.benchmarks.turns import Plan, take_turns
from tests.benchmarks.workload import Workload

PLAN = Plan(num_builds=2, num_warmup=3, num_turns=4, num_steps=2)


@pytest.mark.parametrize("is_read_batched", [True, False])
@pytest.mark.parametrize("width", [0, 2])
def test_by_hand_and_engine_take_the_same_steps(
    width: int, is_read_batched: bool
) -> None:
    contenders = {"by hand": train_by_hand, "engine": train_by_engine}
    workload = Workload(width=width, is_read_batched=is_read_batched)
    turns = measure(contenders, workload, PLAN)
    assert list(turns) == list(contenders)
    for own in turns.values():
        assert len(own) == PLAN.num_builds * PLAN.num_turns
        assert all(turn.wall_s > 0 and turn.cpu_s > 0 for turn in own)


def test_loops_alternate_and_only_their_own_time_counts() -> None:
    order: list[str] = []

    def loop(name: str, step_s: float) -> Callable[[int, Callable[[], None]], None]:
        def run(num_steps: int, on_step: Callable[[], None]) -> None:
            for _ in range(num_steps):
                order.append(name)
                time.sleep(step_s)
                on_step()

        return run

    turns = take_turns({"a": loop("a", 0.001), "b": loop("b", 0.02)}, PLAN)
    build = "aaabbb" + "aabb" * PLAN.num_turns
    assert "".join(order) == build * PLAN.num_builds
    assert min(turn.wall_s for turn in turns["a"]) < 0.02
    assert all(turn.wall_s >= 0.02 for turn in turns["b"])


def test_a_loop_that_fails_ends_the_others_and_is_raised() -> None:
    def fail(_num_steps: int, on_step: Callable[[], None]) -> None:
        on_step()
        raise ZeroDivisionError

    def go_on(num_steps: int, on_step: Callable[[], None]) -> None:
        for _ in range(num_steps):
            on_step()

    with pytest.raises(ZeroDivisionError):
        take_turns({"good": go_on, "bad": fail, "better": go_on}, PLAN)
