"""The loops that are compared; each trains a workload and calls back after each step.

Every contender reads the same data in a random order, in this process, without
evaluation and checkpoints. What each of them logs is what it logs by default, except
that the hand-written loop, Lightning and Accelerate log nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from tests.benchmarks.workload import LR, BatchedPairs, Pair, Workload, collate
from trainer import Callback, StepReport, load_config, train

OnStep = Callable[[], None]
Contender = Callable[[Workload, int, OnStep], None]  # trains a number of steps


def train_by_hand(workload: Workload, num_steps: int, on_step: OnStep) -> None:
    """The fastest loop that a person would write: no loader, no logging."""
    model = workload.build_model()
    optimizer = workload.build_optimizer(model)
    batches = _shuffled(workload)
    for _ in range(num_steps):
        inputs, labels = next(batches)
        loss = cross_entropy(model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        on_step()


def _shuffled(workload: Workload) -> Iterator[Pair]:
    data = workload.build_data()
    while True:
        order = torch.randperm(len(data))
        for start in range(0, len(data), workload.batch_size):
            chosen = order[start : start + workload.batch_size]
            if isinstance(data, BatchedPairs):
                yield data.inputs[chosen], data.labels[chosen]
            else:
                yield collate([data[index] for index in chosen.tolist()])


class AfterStep(Callback):
    """Calls what `train_by_engine` was given, after each step of the newest run."""

    on_step: ClassVar[OnStep]

    def on_step_end(self, report: StepReport) -> None:
        AfterStep.on_step()


def train_by_engine(workload: Workload, num_steps: int, on_step: OnStep) -> None:
    """Ours, as `python -m trainer` runs it: a run's folder, metrics, signals."""
    AfterStep.on_step = on_step
    with tempfile.TemporaryDirectory(prefix="perennial-bench-") as folder:
        words = [
            "task._target_=tests.benchmarks.workload.ClassifyTask",
            f"task.width={workload.width}",
            f"task.is_read_batched={workload.is_read_batched}",
            "optimizer=sgd",
            f"optimizer.lr={LR}",
            f"batch.global_size={workload.batch_size}",
            f"duration.max_steps={num_steps}",
            "checkpoint.every_steps=null",
            "logging.console=false",
            "scaling.threads_per_worker=1",
            f"callbacks.after_step._target_={__name__}.{AfterStep.__qualname__}",
            f"storage_url={folder}",
            "name=bench",
        ]
        train(load_config(words))


def _loader(workload: Workload) -> DataLoader[Pair]:
    """The loader that a user of the other libraries writes."""
    return DataLoader(
        workload.build_data(),  # type: ignore[arg-type]  # torch's Dataset is a class
        batch_size=workload.batch_size,
        shuffle=True,
        collate_fn=collate,
    )


def train_by_lightning(workload: Workload, num_steps: int, on_step: OnStep) -> None:
    """Lightning's Trainer with everything off that can be."""
    lightning: Any = import_module("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc]  # not a dependency
        def __init__(self) -> None:
            super().__init__()
            self.model = workload.build_model()

        def training_step(self, batch: Pair, _number: int) -> Tensor:
            return cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return workload.build_optimizer(self.model)

        def on_train_batch_end(self, *_: object) -> None:
            on_step()

    with tempfile.TemporaryDirectory(prefix="perennial-bench-") as folder:
        lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=num_steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        ).fit(Module(), _loader(workload))


def train_by_accelerate(workload: Workload, num_steps: int, on_step: OnStep) -> None:
    """A loop over what Accelerate prepares."""
    accelerator: Any = import_module("accelerate").Accelerator(cpu=True)
    model = workload.build_model()
    model, optimizer, loader = accelerator.prepare(
        model, workload.build_optimizer(model), _loader(workload)
    )

    batches = _endless(loader)
    for _ in range(num_steps):
        inputs, labels = next(batches)
        loss = cross_entropy(model(inputs), labels)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        on_step()


def _endless(loader: Iterable[Pair]) -> Iterator[Pair]:
    while True:
        yield from loader
