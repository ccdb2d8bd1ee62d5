"""How far a run has come: what a checkpoint holds besides model and optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.config import Mode


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best evaluation so far, by `checkpoint.metric`."""

    step: int
    metric: str
    value: float


@dataclass(kw_only=True, slots=True)
class Progress:
    """Counters and metrics at a step boundary, equal on all ranks; a `Stateful`."""

    step: int = 0  # optimizer steps done
    samples: int = 0  # training samples seen: the position in the data
    train_time_s: float = 0.0  # seconds in the loop, over all restarts
    train_metrics: dict[str, float] = field(default_factory=dict)  # newest logged
    eval_metrics: dict[str, float] = field(default_factory=dict)  # newest evaluation
    eval_step: int | None = None  # step of that evaluation
    best: Best | None = None
    num_evals_without_best: int = 0
    num_threads: int | None = None  # arithmetic depends on it: kept over restarts
    fingerprints: dict[str, str] = field(default_factory=dict)  # data set -> identity
    ledger: dict[str, float] = field(default_factory=dict)  # seconds by phase

    def state_dict(self) -> dict[str, Any]:
        """Returns the fields as numbers, strings and dictionaries."""
        state: dict[str, Any] = {
            name: getattr(self, name) for name in self.__slots__ if name != "best"
        }
        best = self.best
        state["best"] = best and {
            "step": best.step,
            "metric": best.metric,
            "value": best.value,
        }
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets every field from what `state_dict` returned."""
        for name in self.__slots__:
            value = state[name]
            setattr(self, name, Best(**value) if name == "best" and value else value)

    def record_evaluation(
        self,
        metrics: dict[str, float],
        metric: str | None,
        *,
        mode: Mode,
        min_delta: float,
    ) -> bool:
        """Takes an evaluation of this step; returns whether it is the best so far.

        Args:
            metrics: all evaluation metrics by name.
            metric: the one that decides; None when none does.
            mode: whether a smaller or a larger value is better.
            min_delta: smallest change that counts as better.

        Raises:
            KeyError: `metric` is not among the metrics.
        """
        self.eval_metrics = metrics
        self.eval_step = self.step
        if metric is None:
            return False
        value = metrics[metric]
        sign = 1 if mode is Mode.max else -1
        best = self.best
        is_better = best is None or sign * (value - best.value) > min_delta
        if is_better and not math.isnan(value):
            self.best = Best(step=self.step, metric=metric, value=value)
            self.num_evals_without_best = 0
            return True
        self.num_evals_without_best += 1
        return False
