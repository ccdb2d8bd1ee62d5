"""The range of every number in the configuration, each with a value that mends it.

Judges one value at a time; what two values must have in common is in the rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from trainer.config.arguments import argument
from trainer.config.schema import TrainConfig
from trainer.errors import Fault


@dataclass(frozen=True, slots=True)
class Bound:
    """What a number must be; null always passes, because the schema judges it."""

    path: str
    above: float | None = None  # must be greater
    least: float | None = None  # must be at least
    below: float | None = None  # must be smaller
    most: float | None = None  # must be at most
    reason: str = ""
    remedy: str = "null"  # the value to type instead

    def admits(self, value: float) -> bool:
        """Says whether `value` lies in the range; infinity and NaN never do."""
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        sides = (">", self.above), (">=", self.least), ("<", self.below)
        parts = [
            f"{sign} {limit}"
            for sign, limit in (*sides, ("<=", self.most))
            if limit is not None
        ]
        return " and ".join(parts) + (f", because {self.reason}" if self.reason else "")


_OFF = "null turns it off"
BOUNDS = (
    Bound("seed", least=0, below=2**63, remedy="0"),
    Bound("batch.global_size", least=1, remedy="64"),
    Bound("batch.micro_size", least=1),
    Bound("clip_grad_norm", above=0, reason=_OFF),
    Bound("duration.max_steps", least=1),
    Bound("duration.max_epochs", least=1),
    Bound("duration.max_samples", least=1),
    Bound("duration.max_time_s", above=0),
    Bound("evaluation.every_steps", least=1, reason="null is only at the end"),
    Bound("evaluation.micro_size", least=1),
    Bound("checkpoint.every_steps", least=1, reason=_OFF),
    Bound("checkpoint.every_s", above=0, reason=_OFF),
    Bound("checkpoint.keep_latest", least=1, reason="resume needs one", remedy="1"),
    Bound("checkpoint.keep_best", least=0, remedy="0"),
    Bound("early_stopping.patience", least=1, reason=_OFF),
    Bound("early_stopping.min_delta", least=0, remedy="0"),
    Bound("lr_schedule.warmup_steps", least=0, remedy="0"),
    Bound("lr_schedule.decay_steps", least=1),
    Bound("lr_schedule.final_factor", least=0, most=1, remedy="0"),
    Bound("optimizer.lr", above=0, remedy="0.001"),
    Bound("optimizer.weight_decay", least=0, remedy="0"),
    Bound("strategy.bucket_cap_mb", above=0, remedy="25"),
    Bound("scaling.threads_per_worker", least=1),
    Bound("recovery.max_failures", least=0, remedy="0"),
    Bound("loader.num_workers", least=0, remedy="0"),
    Bound("loader.prefetch_factor", least=1, remedy="2"),
    Bound("logging.every_steps", least=1, remedy="10"),
    Bound("task.width", least=1, remedy="32"),
    Bound("task.num_layers", least=1, remedy="4"),
    Bound("task.num_heads", least=1, remedy="4"),
    Bound("task.context_length", least=1, remedy="128"),
    Bound("task.dropout", least=0, below=1, remedy="0.1"),
    Bound("task.eval_fraction", above=0, below=1, remedy="0.1"),
)


def bound_faults(config: TrainConfig) -> Iterator[Fault]:
    """Yields a fault for every number outside its range."""
    for bound in BOUNDS:
        parent, _, name = bound.path.rpartition(".")
        node: object = getattr(config, parent) if parent else config
        # A target of the user's own has arguments that we know nothing about, except
        # the learning rate, which the schedule scales.
        if isinstance(node, dict) and bound.path != "optimizer.lr":
            continue
        value = argument(node, name)
        if isinstance(value, int | float) and not bound.admits(value):
            kind = "" if math.isfinite(value) else "a finite number "
            yield Fault(
                path=bound.path,
                value=value,
                rule=f"must be {kind}{bound}",
                remedy=f"set {bound.path}={bound.remedy}",
            )
