"""The factor on the peak learning rate: a function of the step alone, no state."""

from __future__ import annotations

import math

from trainer.config import LrScheduleConfig, Schedule


def lr_factor(config: LrScheduleConfig, step: int, last_step: int | None) -> float:
    """Returns the factor for the optimizer step that makes `step` into `step + 1`.

    Rises linearly over `warmup_steps`, the first step having 1 / warmup_steps of the
    peak; then stays, or falls to `final_factor` at `decay_steps`. The cosine is that of
    Loshchilov and Hutter, SGDR (2016), equation 5, without restarts.

    Args:
        config: shape, warm-up and decay.
        step: optimizer steps done before, from 0.
        last_step: number of steps of the run, where the decay ends by default.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    end = config.decay_steps or last_step
    if config.schedule is Schedule.constant or end is None:
        return 1.0
    span = max(1, end - config.warmup_steps)
    share = min(1.0, (step - config.warmup_steps) / span)
    if config.schedule is Schedule.cosine:
        share = (1.0 - math.cos(math.pi * share)) / 2.0
    return 1.0 - share * (1.0 - config.final_factor)
