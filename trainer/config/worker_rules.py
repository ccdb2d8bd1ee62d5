"""Rules on who does the work: workers, their share of a batch, hardware, storage.

Yields faults only; changes nothing. Single values are judged in ``bounds.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from trainer.config.arguments import has_target_of
from trainer.config.environment import (
    has_nvidia_device,
    is_torchrun,
    launched_world_size,
)
from trainer.config.schema import SingleTargetConfig, TrainConfig
from trainer.errors import Fault

_PATH = "scaling.num_workers"


def worker_faults(config: TrainConfig) -> Iterator[Fault]:
    """Yields what is wrong with the workers; without sound ones, only that."""
    shape_fault = _shape_fault(config.scaling.num_workers)
    if shape_fault is not None:
        yield shape_fault
        return
    least, most = worker_range(config)
    yield from _launcher_faults(config)
    yield from _share_faults(config, least, most)
    yield from _strategy_faults(config, most)
    yield from _gpu_faults(config)
    yield from _storage_faults(config, most)


def worker_range(config: TrainConfig) -> tuple[int, int]:
    """Returns the smallest and largest number of ranks; 0 means the launcher's."""
    num_workers = config.scaling.num_workers
    if isinstance(num_workers, list | tuple):
        return num_workers[0], num_workers[1]
    ranks = num_workers or launched_world_size()
    return ranks, ranks


def _shape_fault(value: object) -> Fault | None:
    rule = "must be an integer >= 0, or [min, max] with 1 <= min <= max"
    remedy = f"set {_PATH}=0"
    if _is_count(value, least=0):
        return None
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = value
        if _is_count(low, least=1) and _is_count(high, least=1):
            if low <= high:
                return None
            rule = "the range is reversed: [min, max] needs min <= max"
            remedy = f"set {_PATH}=[{high},{low}]"
        elif _is_count(high, least=1):
            remedy = f"set {_PATH}=[1,{high}]"
    return Fault(path=_PATH, value=value, rule=rule, remedy=remedy)


def _is_count(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _launcher_faults(config: TrainConfig) -> Iterator[Fault]:
    if config.scaling.num_workers != 0 and is_torchrun():
        yield Fault(
            path=_PATH,
            value=config.scaling.num_workers,
            rule="torchrun has started this process as a rank, and Ray would start"
            " workers of its own in each",
            remedy=f"set {_PATH}=0, or start without torchrun",
        )


def _share_faults(config: TrainConfig, least: int, most: int) -> Iterator[Fault]:
    size, micro = config.batch.global_size, config.batch.micro_size
    if size < 1:
        return
    if least != most:
        if size < most:
            yield _size_fault(
                size, f"{most} workers need a sample each in every step", most
            )
        return
    if size % most:
        above = (size // most + 1) * most
        rule = f"{most} workers share a step evenly, so it must be divisible by {most}"
        yield _size_fault(size, rule, above)
        return
    share = size // most
    if micro is not None and micro >= 1 and share % micro:
        fitting = max(n for n in range(1, min(micro, share) + 1) if share % n == 0)
        yield Fault(
            path="batch.micro_size",
            value=micro,
            rule=f"must divide a worker's share of a step, which is {share} samples"
            f" (batch.global_size={size} over {most})",
            remedy=f"set batch.micro_size={fitting}",
        )


def _size_fault(size: int, rule: str, remedy: int) -> Fault:
    return Fault(
        path="batch.global_size",
        value=size,
        rule=rule,
        remedy=f"set batch.global_size={remedy}",
    )


def _strategy_faults(config: TrainConfig, most: int) -> Iterator[Fault]:
    if most > 1 and has_target_of(config.strategy, SingleTargetConfig):
        yield Fault(
            path="strategy",
            value="single",
            rule=f"works with one worker, and there are up to {most}",
            remedy="type strategy=ddp",
        )


def _gpu_faults(config: TrainConfig) -> Iterator[Fault]:
    trains_here = config.scaling.num_workers == 0
    if config.scaling.use_gpu and trains_here and not has_nvidia_device():
        yield Fault(
            path="scaling.use_gpu",
            value="true",
            rule="training is in this process, and this machine shows no NVIDIA GPU",
            remedy="set scaling.use_gpu=false",
        )


def _storage_faults(config: TrainConfig, most: int) -> Iterator[Fault]:
    in_other_processes = config.scaling.num_workers != 0 or most > 1
    if config.storage_url.startswith("memory:") and in_other_processes:
        yield Fault(
            path="storage_url",
            value=config.storage_url,
            rule="the memory of one process is no storage for several",
            remedy="set storage_url=runs",
        )
