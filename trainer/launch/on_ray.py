"""Runs the ranks as workers of Ray Train V2, on a Ray of our own or a cluster.

Reads what ended a run from the ranks' own words, and from Ray where they have none.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from trainer.config import TrainConfig
from trainer.errors import FailureKind, TrainerError, WorkerFailed
from trainer.launch.connection import connected, environment
from trainer.launch.mailbox import Link, Mailbox
from trainer.logging.progress import Snapshot
from trainer.preemption import StopRequest
from trainer.recovery import explain, record_failure
from trainer.result import TrainResult
from trainer.run_folder import RunFolder
from trainer.worker import Launch, run_worker

logger = logging.getLogger(__name__)

_POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class _Job:
    """What every worker is given."""

    config: TrainConfig
    mailbox: Any  # handle of a Mailbox actor


def train_on_ray(
    config: TrainConfig,
    folder: RunFolder,
    stop: StopRequest,
    show: Callable[[Snapshot], None] | None,
) -> TrainResult:
    """Trains on Ray workers, the run's folder being open; returns the result.

    Connects to `RAY_ADDRESS`, or to a Ray that is already initialised in this process,
    or starts one of its own and stops it again.

    Raises:
        TrainerError: as `launch.train` does.
    """
    with environment(), connected(config):
        mailbox: Any = ray.remote(num_cpus=0)(Mailbox).remote()
        fit = _Fit(config, mailbox)
        fit.start()
        failures = _watch(fit, mailbox, stop, show)
        # Workers that Ray Train still starts again end by themselves; leaving Ray under
        # its thread's feet would make that thread start another.
        fit.join()
    if fit.result is not None:
        return fit.result
    failure = _cause(failures, fit.error)
    if isinstance(failure, WorkerFailed):
        record_failure(folder, failure, is_recorder=True, since=time.time())
    raise failure from fit.error


def _watch(
    fit: _Fit,
    mailbox: Any,
    stop: StopRequest,
    show: Callable[[Snapshot], None] | None,
) -> list[TrainerError]:
    """Shows progress and passes a stop on until the run ends; returns its failures."""
    is_asked = False
    num_seen = 1
    while True:
        is_alive = fit.is_alive()
        if stop.reason and not is_asked:
            is_asked = True
            ray.get(mailbox.ask_stop.remote(stop.reason, stop.source))
        snapshot, failures, num_starts = ray.get(mailbox.look.remote())
        if snapshot is not None and show is not None:
            show(snapshot)
        if num_starts > num_seen:
            num_seen = num_starts
            reason = failures[-1] if failures else "a worker died"
            logger.warning("workers were started again, because: %s", reason)
        # What Ray Train still does about a final failure changes nothing.
        if not is_alive or any(map(_is_final, failures)):
            return cast(list[TrainerError], failures)
        fit.join(_POLL_S)


def _is_final(failure: TrainerError) -> bool:
    """Returns whether another try would fail alike."""
    return not isinstance(failure, WorkerFailed) or failure.kind is FailureKind.BUG


def _cause(failures: list[TrainerError], error: Exception | None) -> TrainerError:
    """Returns what ended the last attempt: a rank's words, or what Ray saw of it."""
    final = [failure for failure in failures if _is_final(failure)]
    own = [
        failure
        for failure in failures
        if isinstance(failure, WorkerFailed)
        and failure.kind is not FailureKind.PEER_LOST
    ]
    if final or own:
        return final[0] if final else own[-1]
    died = getattr(error, "worker_failures", {})
    for rank, reason in died.items():
        if isinstance(reason, ray.exceptions.RayActorError):
            return WorkerFailed(
                rank=rank,
                kind=FailureKind.PEER_LOST,
                cause="its process died or its node was lost",
                where=None,
                advice="look for the out-of-memory killer on its node, or raise "
                "recovery.max_failures; the same words continue",
                traceback=str(reason),
            )
    return explain(error or RuntimeError("Ray Train ended without a result"), 0)


class _Fit(threading.Thread):
    """Runs Ray Train's `fit`, which would take SIGINT over on the main thread."""

    def __init__(self, config: TrainConfig, mailbox: Any) -> None:
        super().__init__(name="ray-train-fit", daemon=True)
        self._config = config
        self._mailbox = mailbox
        self.result: TrainResult | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="perennial-ray-") as ray_dir:
            try:
                outcome: Any = self._trainer(ray_dir).fit()
                self.result = outcome.return_value
            except Exception as error:  # noqa: BLE001  the main thread raises it
                self.error = error

    def _trainer(self, ray_dir: str) -> TorchTrainer:
        scaling = self._config.scaling
        workers = scaling.num_workers
        train: Any = ray.train  # its types are those of Train V1, which does not run
        return TorchTrainer(
            cast(Any, _run_rank),
            train_loop_config={"job": _Job(self._config, self._mailbox)},
            scaling_config=train.ScalingConfig(
                num_workers=tuple(workers) if isinstance(workers, list) else workers,
                use_gpu=scaling.use_gpu,
                resources_per_worker=scaling.resources_per_worker or None,
            ),
            torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo"),
            run_config=train.RunConfig(
                name="ray",
                storage_path=ray_dir,
                failure_config=train.FailureConfig(
                    max_failures=self._config.recovery.max_failures
                ),
                logging_config=train.LoggingConfig(log_level="CRITICAL"),
            ),
        )


def _run_rank(settings: dict[str, _Job]) -> TrainResult | None:
    """Trains as one Ray worker; Ray Train starts it again after what it raises."""
    job = settings["job"]
    _, failures, _ = ray.get(job.mailbox.look.remote())
    if any(map(_is_final, failures)):
        return None
    rank = ray.train.get_context().get_world_rank()
    if rank == 0:
        ray.get(job.mailbox.start.remote())
    stop = StopRequest()
    link = Link(job.mailbox, stop) if rank == 0 else None
    launch = Launch(stop=stop, show=link.show if link else None, is_open=True)
    try:
        return run_worker(job.config, launch)
    except Exception as error:  # noqa: BLE001  a rank may raise anything
        failure = error if isinstance(error, TrainerError) else explain(error, rank)
        ray.get(job.mailbox.add_failure.remote(failure))
        raise failure from None
    finally:
        if link is not None:
            link.close()
