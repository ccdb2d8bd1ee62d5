"""Builds what one rank trains with from the configuration: task, model, optimizer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import cast

from torch import nn
from torch.optim import Optimizer

from trainer.activation_checkpointing import apply_activation_checkpointing
from trainer.config import DurationConfig, TrainConfig, instantiate
from trainer.config.naming import listed, nearest
from trainer.data import MicroBatch, fingerprint, split_batch
from trainer.distributed import Distributed
from trainer.errors import ConfigError, Fault
from trainer.randomness import Purpose, derive_seed, seed_generators
from trainer.strategies import Setup, Strategy
from trainer.task import DataSets, TrainTask


def num_threads(config: TrainConfig, distributed: Distributed) -> int:
    """Returns a rank's threads: as configured, by the environment, or its share."""
    if config.scaling.threads_per_worker is not None:
        return config.scaling.threads_per_worker
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    return max(1, len(os.sched_getaffinity(0)) // distributed.num_local_ranks)


@dataclass(frozen=True, slots=True)
class Built:
    """A rank's task, data and model, not restored yet."""

    task: TrainTask
    data: DataSets
    strategy: Strategy
    share: list[MicroBatch]
    last_step: int | None  # None: time alone ends the run
    fingerprints: dict[str, str]


def build(config: TrainConfig, distributed: Distributed) -> Built:
    """Builds a rank's parts; every rank gets the same model. All ranks must call this.

    Raises:
        ConfigError: the configuration does not fit the task, the data or the ranks.
    """
    seed_generators(derive_seed(Purpose.MODEL, config.seed))
    task = _build_task(config)
    data = task.build_datasets()
    seed_generators(derive_seed(Purpose.MODEL, config.seed, 1))
    model = task.build_model()
    strategy = _build_strategy(config, distributed, task, model)
    parts = {"train": data.train, "eval": data.eval}
    size = config.batch.global_size
    return Built(
        task,
        data,
        strategy,
        _split(config, distributed),
        last_step(config.duration, len(data.train), size),
        {name: fingerprint(d, config.seed) for name, d in parts.items() if d},
    )


def _build_task(config: TrainConfig) -> TrainTask:
    task = instantiate(config.task, path="task")
    if not isinstance(task, TrainTask):
        raise ConfigError(
            [
                Fault(
                    path="task._target_",
                    value=type(task).__qualname__,
                    rule="must be a subclass of trainer.TrainTask",
                    remedy="derive it from TrainTask, or use task=supervised",
                )
            ]
        )
    names = task.metric_names
    if names is not None:
        check_metric(config, [f"eval/{name}" for name in names])
    return task


def check_metric(config: TrainConfig, names: list[str]) -> None:
    """Refuses a `checkpoint.metric` that evaluation does not give.

    Raises:
        ConfigError: it is not among the names.
    """
    metric = config.checkpoint.metric
    if metric is None or metric in names:
        return
    remedy = nearest(metric, names) or (names[0] if names else "null")
    raise ConfigError(
        [
            Fault(
                path="checkpoint.metric",
                value=metric,
                rule=f"evaluation gives {listed(names) or 'nothing'}",
                remedy=f"checkpoint.metric={remedy}",
            )
        ]
    )


def _build_strategy(
    config: TrainConfig, distributed: Distributed, task: TrainTask, model: nn.Module
) -> Strategy:
    apply_activation_checkpointing(model, config.activation_checkpointing)
    strategy = cast(Strategy, instantiate(config.strategy, path="strategy"))

    def build_optimizer(module: nn.Module) -> Optimizer:
        groups = task.parameter_groups(module)
        return cast(Optimizer, instantiate(config.optimizer, groups, path="optimizer"))

    strategy.setup(
        Setup(
            model=model,
            build_optimizer=build_optimizer,
            distributed=distributed,
            precision=config.precision,
            compile=config.compile,
            clip_grad_norm=config.clip_grad_norm,
        )
    )
    return strategy


def _split(config: TrainConfig, distributed: Distributed) -> list[MicroBatch]:
    batch = config.batch
    world_size = distributed.world_size
    share = split_batch(
        batch.global_size, batch.micro_size, distributed.rank, world_size
    )
    if not split_batch(batch.global_size, batch.micro_size, 0, world_size):
        raise ConfigError(
            [
                Fault(
                    path="batch.micro_size",
                    value=batch.micro_size,
                    rule=f"leaves some of {world_size} workers without samples",
                    remedy=f"batch.micro_size={batch.global_size // world_size}",
                )
            ]
        )
    return share


def last_step(duration: DurationConfig, num_samples: int, size: int) -> int | None:
    """Returns the number of steps of a run, None when only time ends it.

    Steps are whole: a run never sees more than `max_epochs` or `max_samples` allow.

    Args:
        duration: the limits; the smallest counts.
        num_samples: length of the training data.
        size: samples a step.

    Raises:
        ConfigError: not even one step fits.
    """
    samples = {}
    if duration.max_steps is not None:
        samples["max_steps"] = duration.max_steps * size
    if duration.max_epochs is not None:
        samples["max_epochs"] = duration.max_epochs * num_samples
    if duration.max_samples is not None:
        samples["max_samples"] = duration.max_samples
    faults = [
        Fault(
            path=f"duration.{name}",
            value=getattr(duration, name),
            rule=f"is less than one step of {size} samples; the data has {num_samples}",
            remedy=f"batch.global_size={allowed} or a longer duration",
        )
        for name, allowed in samples.items()
        if allowed < size
    ]
    if faults:
        raise ConfigError(faults)
    return min(samples.values()) // size if samples else None
