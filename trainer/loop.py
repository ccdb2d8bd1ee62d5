"""The training loop: optimizer steps are the clock.

`Trainer.fit` knows a task, data, a strategy, a place for checkpoints and callbacks. It
must never know Ray, Hydra, a URL, or which rank it runs on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from checkpoints import CheckpointInfo
from trainer.callbacks import Callback, StepReport
from trainer.config import TrainConfig
from trainer.data import Fetched, MicroBatch
from trainer.distributed import Distributed
from trainer.evaluation import Evaluator, to_device
from trainer.ledger import Ledger, Phase
from trainer.lr_schedules import lr_factor
from trainer.metrics import WeightedMeans
from trainer.preemption import Agreement, StopReason, StopRequest
from trainer.randomness import Purpose, derive_seed, seed_generators
from trainer.state import Progress
from trainer.strategies import Strategy
from trainer.task import TrainTask


class Saver(Protocol):
    """Makes the state at a step boundary durable; every rank calls it."""

    def save(self) -> CheckpointInfo:
        """Returns when the checkpoint is committed. All ranks must call this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a run is made of, built and restored, on one rank."""

    config: TrainConfig
    task: TrainTask
    strategy: Strategy
    peak_lrs: list[float]  # of each parameter group, as configured
    distributed: Distributed
    batches: Iterator[Fetched]  # this rank's micro-batches from progress.step on
    share: list[MicroBatch]  # those of one step
    evaluator: Evaluator | None
    progress: Progress
    saver: Saver
    callbacks: Sequence[Callback]
    stop: StopRequest
    ledger: Ledger
    num_samples: int  # length of the training data
    last_step: int | None  # None: time alone ends the run


class Trainer:
    """Takes one rank's run from where it stands to its end; every rank has one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._config = parts.config
        self._progress = parts.progress
        self._weights = [
            part.size * parts.distributed.world_size / parts.config.batch.global_size
            for part in parts.share
        ]
        self._agreement = Agreement(parts.distributed)
        self._saved_step = parts.progress.step
        self._saved_at = self._logged_at = time.monotonic()
        self._logged_samples = parts.progress.samples

    def fit(self) -> StopReason:
        """Trains to the end or to an agreed stop. All ranks must call this.

        Returns:
            INTERRUPTED when the run has to go on another time, else NONE.
        """
        progress, parts = self._progress, self._parts
        for callback in parts.callbacks:
            callback.on_fit_start(step=progress.step, last_step=parts.last_step)
        parts.strategy.model.train()
        self._saved_at = self._logged_at = time.monotonic()
        max_time_s = self._config.duration.max_time_s
        is_over = self._is_over() or (
            max_time_s is not None and progress.train_time_s >= max_time_s
        )
        reason = StopReason.NONE
        parts.ledger.enter(Phase.TRAIN)
        while not is_over and reason is not StopReason.INTERRUPTED:
            started = time.monotonic()
            report = self._train_step()
            progress.train_time_s += time.monotonic() - started
            reason = self._finish_step(report)
            is_over = self._is_over() or reason is StopReason.TIME_UP
        if is_over:
            self._finish_run()
        self._agreement.close()
        return StopReason.NONE if is_over else reason

    def _train_step(self) -> StepReport:
        config, parts, progress = self._config, self._parts, self._progress
        is_logged = (progress.step + 1) % config.logging.every_steps == 0
        losses = WeightedMeans() if is_logged else None
        factor = lr_factor(config.lr_schedule, progress.step, parts.last_step)
        groups = parts.strategy.optimizer.param_groups
        for group, peak in zip(groups, parts.peak_lrs, strict=True):
            group["lr"] = peak * factor
        indices: list[int] = []
        for number, part in enumerate(parts.share, start=1):
            fetched = next(parts.batches)
            indices += fetched.indices
            with parts.strategy.micro_batch(is_last=number == len(parts.share)):
                loss = self._backward(fetched, part, self._weights[number - 1])
            if losses is not None:
                losses.add({"loss": loss}, part.size)
        norm = parts.strategy.step()
        progress.step += 1
        progress.samples += config.batch.global_size
        metrics = self._log(losses, norm, groups[0]["lr"]) if losses else None
        epoch = (progress.samples - 1) // parts.num_samples
        return StepReport(
            step=progress.step,
            epoch=epoch,
            samples=progress.samples,
            indices=indices,
            metrics=metrics,
        )

    def _backward(self, fetched: Fetched, part: MicroBatch, weight: float) -> Tensor:
        parts = self._parts
        batch = to_device(fetched.batch, parts.distributed.device)
        seed_generators(
            derive_seed(
                Purpose.MICRO_BATCH, self._config.seed, self._progress.step, part.index
            )
        )
        with parts.strategy.autocast():
            loss = parts.task.compute_loss(parts.strategy.model, batch)
        if loss.ndim != 0:
            raise ValueError(
                f"compute_loss returned a tensor of shape {tuple(loss.shape)}: it must "
                "be a scalar, the mean over the batch's samples; call .mean() on it"
            )
        parts.strategy.backward(loss if weight == 1.0 else loss * weight)
        return loss

    def _log(
        self, losses: WeightedMeans, norm: Tensor | None, lr: float
    ) -> dict[str, float]:
        metrics = losses.compute(self._parts.distributed, ["loss"])
        if norm is not None:
            metrics["grad_norm"] = float(norm)
        self._progress.train_metrics = {f"train/{k}": v for k, v in metrics.items()}
        now = time.monotonic()
        samples = self._progress.samples - self._logged_samples
        speed = samples / max(now - self._logged_at, 1e-9)
        self._logged_at, self._logged_samples = now, self._progress.samples
        return {**metrics, "lr": lr, "samples_per_s": speed}

    def _finish_step(self, report: StepReport) -> StopReason:
        config, progress = self._config, self._progress
        for callback in self._parts.callbacks:
            callback.on_step_end(report)
        every = config.evaluation.every_steps
        is_due = every is not None and progress.step % every == 0
        is_best = self._evaluate() if is_due or self._is_over() else False
        reason, should_save = self._agreement.decide(
            self._own_reason(), wants_save=self._is_save_late()
        )
        is_time_up = reason is StopReason.TIME_UP
        if is_time_up and progress.eval_step != progress.step:
            is_best = self._evaluate()
        every = config.checkpoint.every_steps
        if (
            (every is not None and progress.step % every == 0)
            or (is_best and config.checkpoint.keep_best > 0)
            or should_save
            or self._is_over()
            or reason is not StopReason.NONE
        ):
            self._save()
        return reason

    def _own_reason(self) -> StopReason:
        max_time_s = self._config.duration.max_time_s
        is_up = max_time_s is not None and self._progress.train_time_s >= max_time_s
        reason = StopReason.TIME_UP if is_up else StopReason.NONE
        return max(reason, self._parts.stop.reason)

    def _is_save_late(self) -> bool:
        every_s = self._config.checkpoint.every_s
        return every_s is not None and time.monotonic() - self._saved_at >= every_s

    def _is_over(self) -> bool:
        patience = self._config.early_stopping.patience
        if patience is not None and self._progress.num_evals_without_best >= patience:
            return True
        last_step = self._parts.last_step
        return last_step is not None and self._progress.step >= last_step

    def _finish_run(self) -> None:
        if self._progress.eval_step != self._progress.step:
            self._evaluate()
        self._save()

    def _evaluate(self) -> bool:
        parts, progress, config = self._parts, self._progress, self._config.checkpoint
        if parts.evaluator is None:
            return False
        with parts.ledger.during(Phase.EVALUATE):
            metrics = parts.evaluator.evaluate()
        is_best = progress.record_evaluation(
            metrics,
            config.metric,
            mode=config.mode,
            min_delta=self._config.early_stopping.min_delta,
        )
        for callback in parts.callbacks:
            callback.on_evaluation(progress.step, progress.samples, metrics)
        return is_best

    def _save(self) -> None:
        if self._saved_step == self._progress.step:
            return
        for callback in self._parts.callbacks:
            callback.flush()
        with self._parts.ledger.during(Phase.CHECKPOINT):
            info = self._parts.saver.save()
        self._saved_step, self._saved_at = self._progress.step, time.monotonic()
        for callback in self._parts.callbacks:
            callback.on_checkpoint(info)
