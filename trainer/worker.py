"""One rank's life: find its place, build, restore, fit, and always clean up."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch

from checkpoints import CheckpointInfo, CheckpointManager
from trainer import history
from trainer.build import Built, build, num_threads
from trainer.config import TrainConfig
from trainer.data import BatchReader
from trainer.distributed import Distributed
from trainer.evaluation import Evaluator
from trainer.ledger import Ledger, Phase
from trainer.logging.progress import Snapshot
from trainer.logging.sinks import build_callbacks
from trainer.loop import Parts, Trainer
from trainer.opening import (
    check_data,
    check_ranks_agree,
    new_run_name,
    open_run,
    require_checkpoint,
    run_folder,
)
from trainer.preemption import StopReason, StopRequest
from trainer.result import Status, TrainResult, model_digest
from trainer.run_folder import METRICS, RESULT, EventLog, RunFolder, read_json_lines
from trainer.state import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """What whoever starts a rank gives it besides the configuration."""

    stop: StopRequest
    show: Callable[[Snapshot], None] | None  # takes the progress, on rank 0
    is_open: bool = False  # the driver has opened the run's folder already
    on_folder: Callable[[RunFolder], None] = lambda folder: None  # told where it is


def run_worker(config: TrainConfig, launch: Launch) -> TrainResult:
    """Trains as one rank and returns the run's result, the same on every rank.

    All ranks must call this. When one of them raises, the others' collectives fail:
    nobody waits for a rank that is gone.
    """
    ledger = Ledger()
    with ExitStack() as stack:
        distributed = Distributed(use_gpu=config.scaling.use_gpu)
        stack.callback(distributed.abandon)
        name = distributed.broadcast(config.name or new_run_name(config))
        config = replace(config, name=cast(str, name))
        folder = run_folder(config)
        stack.callback(folder.unlock)
        launch.on_folder(folder)
        result = distributed.on_rank_zero(lambda: _claim(folder, config, launch))
        if result is None:
            rank = _Rank(config, launch, distributed, folder, ledger, stack)
            result = rank.run()
        distributed.close()
        return result


def _claim(
    folder: RunFolder, config: TrainConfig, launch: Launch
) -> TrainResult | None:
    folder.lock()
    return None if launch.is_open else open_run(folder, config)


@dataclass(frozen=True, slots=True)
class _Rank:
    config: TrainConfig
    launch: Launch
    distributed: Distributed
    folder: RunFolder
    ledger: Ledger
    stack: ExitStack

    def run(self) -> TrainResult:
        torch.set_num_threads(num_threads(self.config, self.distributed))
        built = build(self.config, self.distributed)
        seen = self.distributed.gather(built.fingerprints)
        self.distributed.on_rank_zero(lambda: check_ranks_agree(seen or []))
        peak_lrs = [group["lr"] for group in built.strategy.optimizer.param_groups]
        progress = Progress(fingerprints=built.fingerprints)
        manager = self._manager()
        info = manager.restore(_state(built, progress))
        self._check_restored(info, built, progress)
        log = self._start_log(info, progress)
        callbacks = build_callbacks(
            self.config,
            self.folder,
            self.distributed,
            show=self.launch.show,
            step=progress.step,
            epoch_size=len(built.data.train),
        )
        for callback in callbacks:
            self.stack.callback(callback.close)
        saver = _Saver(manager, built, progress, self.ledger, log)
        parts = self._parts(built, progress, saver, callbacks, peak_lrs)
        reason = Trainer(parts).fit()
        result = self.distributed.on_rank_zero(
            lambda: self._finish(reason, built, progress, manager, log)
        )
        for callback in callbacks:
            callback.on_fit_end(result)
        return result

    def _manager(self) -> CheckpointManager:
        config = self.config.checkpoint
        manager = CheckpointManager(
            f"{self.config.storage_url}/{self.config.name}",
            keep_latest=config.keep_latest,
            keep_best=config.keep_best if config.metric else 0,
            metric=config.metric,
            mode=config.mode.value,
            verify=config.verify.value,
            storage_options=self.config.storage_options,
            collective=self.distributed,
        )
        self.stack.callback(manager.close)
        return manager

    def _check_restored(
        self, info: CheckpointInfo | None, built: Built, progress: Progress
    ) -> None:
        if info is None:
            require_checkpoint(self.folder, self.config)
        else:
            check_data(progress.fingerprints, built.fingerprints)
        # More or fewer threads add floats in another order: keep what the run had.
        own = self.config.scaling.threads_per_worker or progress.num_threads
        torch.set_num_threads(own or torch.get_num_threads())
        progress.num_threads = torch.get_num_threads()

    def _start_log(
        self, info: CheckpointInfo | None, progress: Progress
    ) -> EventLog | None:
        """Records the start of this attempt, and what the one before it lost."""
        if not self.distributed.is_rank_zero:
            return None
        events = self.folder.events()
        log = EventLog(self.folder)
        self.stack.callback(log.close)
        if history.count(events, "workers_started") > 0:
            metrics = read_json_lines(self.folder.storage, METRICS)
            saved_at = info.created_at if info else 0.0
            lost = history.last_logged_step(metrics) - progress.step
            log.add(
                "restored",
                step=progress.step,
                checkpoint_url=info and info.url,
                steps_lost=max(0, lost),
                lost_s=history.unsaved_seconds(events, metrics, saved_at),
            )
        log.add(
            "workers_started",
            num_workers=self.distributed.world_size,
            device=str(self.distributed.device),
            num_threads=progress.num_threads,
            host=socket.gethostname(),
        )
        # Of a checkpoint's ledger all is kept but what was lost before it, which the
        # events know better: they also have what was lost since.
        lost_s = history.seconds_lost(self.folder.events())
        self.ledger.add({**progress.ledger, str(Phase.LOST): lost_s})
        return log

    def _parts(
        self,
        built: Built,
        progress: Progress,
        saver: _Saver,
        callbacks: list[Any],
        peak_lrs: list[float],
    ) -> Parts:
        config = self.config
        reader = BatchReader(built.task.collate, config.seed, config.loader)
        evaluator = None
        if built.data.eval is not None:
            largest = max(part.size for part in built.share)
            held_out = reader.evaluation(
                built.data.eval,
                micro_size=config.evaluation.micro_size or largest,
                rank=self.distributed.rank,
                world_size=self.distributed.world_size,
            )
            evaluator = Evaluator(
                task=built.task,
                batches=held_out,
                strategy=built.strategy,
                distributed=self.distributed,
                seed=config.seed,
            )
        batches = reader.train(
            built.data.train,
            built.share,
            global_size=config.batch.global_size,
            first_step=progress.step,
        )
        return Parts(
            config=config,
            task=built.task,
            strategy=built.strategy,
            peak_lrs=peak_lrs,
            distributed=self.distributed,
            batches=batches,
            share=built.share,
            evaluator=evaluator,
            progress=progress,
            saver=saver,
            callbacks=callbacks,
            stop=self.launch.stop,
            ledger=self.ledger,
            num_samples=len(built.data.train),
            last_step=built.last_step,
        )

    def _finish(
        self,
        reason: StopReason,
        built: Built,
        progress: Progress,
        manager: CheckpointManager,
        log: EventLog | None,
    ) -> TrainResult:
        assert log is not None, "only rank 0 finishes a run"
        is_complete = reason is not StopReason.INTERRUPTED
        if not is_complete:
            log.add("preempted", step=progress.step, source=self.launch.stop.source)
        status = Status.COMPLETED if is_complete else Status.PREEMPTED
        log.add("run_finished", status=str(status), step=progress.step)
        digest = model_digest(built.strategy.model_state()) if is_complete else None
        latest = manager.latest()
        events = self.folder.events()
        ledger = self.ledger.totals()
        result = TrainResult(
            status=status,
            name=self.folder.name,
            run_url=self.folder.url,
            step=progress.step,
            samples_seen=progress.samples,
            metrics={**progress.train_metrics, **progress.eval_metrics},
            best=asdict(progress.best) if progress.best else None,
            model_digest=digest,
            checkpoint_url=latest.url if latest else None,
            wall_time_s=sum(ledger.values()),
            num_restarts=history.num_restarts(events),
            num_preemptions=history.count(events, "preempted"),
            steps_lost=history.steps_lost(events),
            ledger=ledger,
            failures=history.failures(events),
        )
        self.folder.write_json(RESULT, result.to_json())
        return result


def _state(built: Built, progress: Progress) -> Mapping[str, Any]:
    return {**built.strategy.state(), "progress": progress}


@dataclass(frozen=True, slots=True)
class _Saver:
    """Saves what `_state` names at the loop's word; satisfies `loop.Saver`."""

    manager: CheckpointManager
    built: Built
    progress: Progress
    ledger: Ledger
    log: EventLog | None

    def save(self) -> CheckpointInfo:
        progress = self.progress
        progress.ledger = self.ledger.totals()
        is_evaluated = progress.eval_step == progress.step
        handle = self.manager.save(
            progress.step,
            _state(self.built, progress),
            metrics=progress.eval_metrics if is_evaluated else {},
        )
        info = handle.wait()
        if self.log is not None:
            facts = {"step": info.step, "url": info.url, "size_bytes": info.size_bytes}
            self.log.add("checkpoint_saved", **facts)
        return info
