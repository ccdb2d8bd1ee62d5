"""Rules on how training goes: duration, schedule, evaluation, metric, the tasks' own.

Yields faults only; changes nothing. Single values are judged in ``bounds.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from trainer.config.arguments import argument, has_target_of
from trainer.config.naming import listed, nearest
from trainer.config.schema import (
    ByteGptTargetConfig,
    DigitsTargetConfig,
    Schedule,
    SupervisedTargetConfig,
    TrainConfig,
)
from trainer.errors import Fault


def training_faults(config: TrainConfig) -> Iterator[Fault]:
    """Yields what is wrong between the values that shape training."""
    yield from _duration_faults(config)
    yield from _schedule_faults(config)
    yield from _metric_faults(config)
    yield from _early_stopping_faults(config)
    yield from _head_faults(config)


def known_metrics(task: object) -> list[str] | None:
    """Returns the metrics of a shipped task's evaluation; None when not known."""
    if has_target_of(task, DigitsTargetConfig):
        return ["eval/loss", "eval/accuracy"]
    if has_target_of(task, ByteGptTargetConfig):
        return ["eval/loss", "eval/bits_per_byte"]
    if has_target_of(task, SupervisedTargetConfig):
        if argument(task, "eval_data") is None:
            return []
        names = argument(task, "metrics") or {}
        return ["eval/loss", *(f"eval/{name}" for name in names)]
    return None


def _duration_faults(config: TrainConfig) -> Iterator[Fault]:
    limits = config.duration
    given = (limits.max_steps, limits.max_epochs, limits.max_samples, limits.max_time_s)
    if all(limit is None for limit in given):
        yield Fault(
            path="duration",
            value="null",
            rule="a run needs an end: one of max_steps, max_epochs, max_samples and"
            " max_time_s",
            remedy="set duration.max_epochs=1",
        )


def _schedule_faults(config: TrainConfig) -> Iterator[Fault]:
    schedule, limits = config.lr_schedule, config.duration
    if schedule.schedule is Schedule.constant:
        return
    counted = (limits.max_steps, limits.max_epochs, limits.max_samples)
    if schedule.decay_steps is None:
        if all(limit is None for limit in counted) and limits.max_time_s is not None:
            yield Fault(
                path="lr_schedule.decay_steps",
                value="null",
                rule=f"a {schedule.schedule.value} decay needs an end in steps, and the"
                " duration gives seconds only",
                remedy="set lr_schedule.decay_steps=1000",
            )
    elif schedule.warmup_steps >= schedule.decay_steps >= 1:
        yield Fault(
            path="lr_schedule.warmup_steps",
            value=schedule.warmup_steps,
            rule="the warm-up must be over before the decay ends, at"
            f" lr_schedule.decay_steps={schedule.decay_steps}",
            remedy=f"set lr_schedule.warmup_steps={schedule.decay_steps // 10}",
        )


def _metric_faults(config: TrainConfig) -> Iterator[Fault]:
    metric, known = config.checkpoint.metric, known_metrics(config.task)
    if metric is None or known is None or metric in known:
        return
    if known:
        rule = f"is no metric of this task's evaluation; they are {listed(known)}"
        remedy = f"set checkpoint.metric={nearest(metric, known) or known[0]}"
    else:
        rule = "task.eval_data is null, so nothing is evaluated"
        remedy = "set checkpoint.metric=null, or task.eval_data._target_=my_pkg.MyData"
    yield Fault(path="checkpoint.metric", value=metric, rule=rule, remedy=remedy)


def _early_stopping_faults(config: TrainConfig) -> Iterator[Fault]:
    patience = config.early_stopping.patience
    if patience is None:
        return
    path = "early_stopping.patience"
    if config.checkpoint.metric is None:
        known = known_metrics(config.task) or ["eval/loss"]
        rule = "early stopping needs checkpoint.metric to judge by"
        remedy = f"set checkpoint.metric={known[0]}"
        yield Fault(path=path, value=patience, rule=rule, remedy=remedy)
    if config.evaluation.every_steps is None:
        rule = "early stopping counts evaluations, and there is one only at the end"
        remedy = "set evaluation.every_steps=100"
        yield Fault(path=path, value=patience, rule=rule, remedy=remedy)


def _head_faults(config: TrainConfig) -> Iterator[Fault]:
    task = config.task
    if not isinstance(task, ByteGptTargetConfig) or task.num_heads < 1:
        return
    if task.width % task.num_heads:
        above = (task.width // task.num_heads + 1) * task.num_heads
        yield Fault(
            path="task.width",
            value=task.width,
            rule=f"must be a multiple of task.num_heads={task.num_heads}",
            remedy=f"set task.width={above}",
        )
