"""Learning rates are functions of the step, and torch's where torch has them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from trainer.config import LrScheduleConfig, Schedule
from trainer.lr_schedules import lr_factor

NUM_STEPS = 40


def factors(last_step: int | None = NUM_STEPS, **config: Any) -> list[float]:
    schedule = LrScheduleConfig(**config)
    return [lr_factor(schedule, step, last_step) for step in range(NUM_STEPS)]


def torch_factors(scheduler_class: Any, **arguments: Any) -> list[float]:
    """Returns what torch's scheduler sets for each step, at a peak of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = scheduler_class(optimizer, **arguments)
    found = []
    for _ in range(NUM_STEPS):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def test_constant_is_one() -> None:
    assert factors(schedule=Schedule.constant) == [1.0] * NUM_STEPS


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_linear_is_that_of_torch(final: float) -> None:
    expected = torch_factors(
        lr_scheduler.LinearLR,
        start_factor=1.0,
        end_factor=final,
        total_iters=NUM_STEPS,
    )
    assert factors(schedule=Schedule.linear, final_factor=final) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_is_that_of_torch(final: float) -> None:
    expected = torch_factors(
        lr_scheduler.CosineAnnealingLR, T_max=NUM_STEPS, eta_min=final
    )
    assert factors(schedule=Schedule.cosine, final_factor=final) == pytest.approx(
        expected
    )


def test_warm_up_is_that_of_torch_and_reaches_the_peak_with_its_last_step() -> None:
    found = factors(schedule=Schedule.constant, warmup_steps=8)
    expected = torch_factors(
        lr_scheduler.LinearLR, start_factor=1 / 8, end_factor=1.0, total_iters=7
    )
    assert found == pytest.approx(expected)
    assert found[0] == 1 / 8
    assert found[7] == 1.0


@pytest.mark.parametrize(
    ("schedule", "closed_form"),
    [
        (Schedule.linear, lambda share: 1 - share),
        (Schedule.cosine, lambda share: (1 + math.cos(math.pi * share)) / 2),
    ],
)
def test_decay_starts_after_the_warm_up_and_ends_at_its_own_step(
    schedule: Schedule, closed_form: Any
) -> None:
    found = factors(
        schedule=schedule, warmup_steps=10, decay_steps=30, final_factor=0.2
    )
    assert found[10] == 1.0
    for step in range(10, 30):
        expected = 0.2 + 0.8 * closed_form((step - 10) / 20)
        assert found[step] == pytest.approx(expected)
    assert found[30:] == pytest.approx([0.2] * 10)


def test_the_last_step_is_the_end_of_the_decay_by_default() -> None:
    given = factors(last_step=None, schedule=Schedule.cosine, decay_steps=NUM_STEPS)
    assert factors(schedule=Schedule.cosine) == given


def test_without_any_end_the_peak_stays() -> None:
    assert factors(last_step=None, schedule=Schedule.linear) == [1.0] * NUM_STEPS


def test_a_warm_up_as_long_as_the_run_does_not_divide_by_zero() -> None:
    found = factors(last_step=8, schedule=Schedule.linear, warmup_steps=8)
    assert found[7:9] == [1.0, 1.0]
    assert found[9] == 0.0
