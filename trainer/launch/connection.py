"""A Ray to run on: a cluster, one that is initialised already, or one of our own."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from trainer.config import TrainConfig

# Ray reads these in the driver. Health checks find a dead worker in half a second
# instead of two; workers keep the working folder, so that relative paths mean the same.
_DRIVER_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
}


@contextmanager
def environment() -> Iterator[None]:
    """Sets what Ray reads from the environment, and puts back what was there."""
    wanted = dict(_DRIVER_ENVIRONMENT)
    if "RAY_ADDRESS" not in os.environ:
        wanted["GLOO_SOCKET_IFNAME"] = "lo"  # one machine: gloo need not ask its name
    values = {name: v for name, v in wanted.items() if name not in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)


@contextmanager
def connected(config: TrainConfig) -> Iterator[None]:
    """Connects to Ray, and leaves it at the end unless it was there before."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR}
    if "RAY_ADDRESS" in os.environ:
        gloo = {k: v for k, v in os.environ.items() if k.startswith("GLOO_")}
        options["runtime_env"] = {"env_vars": gloo} if gloo else None
    else:
        options |= {
            "address": "local",
            # Ray Train asks the dashboard's API whether its own controller lives.
            "include_dashboard": True,
            "num_cpus": max(os.cpu_count() or 1, _num_cpus_needed(config)),
        }
    with _kept_signal_handlers():
        ray.init(**options)
    try:
        yield
    finally:
        with _kept_signal_handlers():
            ray.shutdown()


@contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """Undoes that Ray takes over SIGTERM, which is a request to stop for us."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _num_cpus_needed(config: TrainConfig) -> int:
    """Cores that a Ray of our own must offer, so that its workers are not queued."""
    workers = config.scaling.num_workers
    most = workers[1] if isinstance(workers, list) else workers
    each = config.scaling.resources_per_worker.get("CPU", 1.0)
    return int(most * max(1.0, each))
