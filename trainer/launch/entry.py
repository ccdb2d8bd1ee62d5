"""`train(config)`: runs the ranks in this process, as torchrun gave them, or on Ray.

What a rank does is `worker.run_worker`, the
same for all three ways; what is here brings it up, shows it, and says how it ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from trainer.config import TrainConfig, check
from trainer.distributed import launched_rank
from trainer.errors import TrainerError
from trainer.logging.console import ConsoleDisplay
from trainer.logging.progress import Snapshot
from trainer.opening import new_run_name, open_run, run_folder
from trainer.preemption import StopRequest, stop_on_signals
from trainer.recovery import explain, record_failure
from trainer.result import TrainResult
from trainer.run_folder import RunFolder
from trainer.worker import Launch, run_worker

Show = Callable[[Snapshot], None]


def train(config: TrainConfig) -> TrainResult:
    """Trains to the end or to an interruption, and returns what came of it.

    With `scaling.num_workers=0` this process trains: alone, or as the rank that
    torchrun gave it; then every rank must call this. Otherwise Ray workers do.
    SIGTERM and Ctrl-C, when this is the main thread, save and return `preempted`.

    Raises:
        ConfigError: the configuration cannot be trained; nothing was started.
        ResumeError: the run's folder holds another run.
        RunLocked: another process is training this run.
        WorkerFailed: a rank failed; its traceback is in the run's folder.
    """
    check(config)
    stop = StopRequest()
    with stop_on_signals(stop), _display(config) as show:
        if config.scaling.num_workers == 0:
            return _train_here(config, stop, show)
        from trainer.launch.on_ray import train_on_ray

        name = config.name or new_run_name(config)
        config = replace(config, name=name, storage_url=_absolute(config.storage_url))
        folder = run_folder(config)
        result = open_run(folder, config)
        return result or train_on_ray(config, folder, stop, show)


@contextmanager
def _display(config: TrainConfig) -> Iterator[Show | None]:
    is_shown = config.logging.console and launched_rank() == 0
    with ConsoleDisplay() if is_shown else nullcontext() as display:
        yield display.show if display else None


def _absolute(url: str) -> str:
    """Returns a local path as workers with another working folder find it."""
    return url if "://" in url else str(Path(url).absolute())


def _train_here(
    config: TrainConfig, stop: StopRequest, show: Show | None
) -> TrainResult:
    folders: list[RunFolder] = []
    started_at = time.time()
    try:
        launch = Launch(stop=stop, show=show, on_folder=folders.append)
        return run_worker(config, launch)
    except TrainerError:
        raise
    except Exception as error:  # a rank may raise anything; it becomes one line
        rank = launched_rank()
        failure = explain(error, rank)
        for folder in folders:
            record_failure(folder, failure, is_recorder=rank == 0, since=started_at)
        raise failure from error
