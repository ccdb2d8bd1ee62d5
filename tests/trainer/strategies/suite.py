"""What every strategy must do, as runs of it and of a plain torch loop beside it.

Each `run_*` is called on every rank with the strategy's own arguments and returns what
the tests compare. Knows no particular strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints import CheckpointManager
from trainer.config import Precision
from trainer.data import split_batch
from trainer.distributed import Distributed
from trainer.strategies import Setup, Strategy

NUM_STEPS = 5


class Network(nn.Module):
    """Two layers, and a third that every second step does without."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.sometimes = nn.Linear(8, 8)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor, *, skips: bool = False) -> Tensor:
        x = torch.tanh(self.first(x))
        if not skips:
            x = x + self.sometimes(x)
        out: Tensor = self.last(x)
        return out


class Normalised(nn.Module):
    """Has buffers that follow the data that a rank sees."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor, *, skips: bool = False) -> Tensor:
        out: Tensor = self.last(self.norm(x))
        return out


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One way to train."""

    model: type[nn.Module] = Network
    optimizer: str = "sgd"
    global_size: int = 12
    micro_size: int | None = None
    clip_grad_norm: float | None = None
    compile: bool = False
    skips: bool = False


def build_model(case: Case) -> nn.Module:
    torch.manual_seed(0)
    return case.model()


def build_optimizer(case: Case, model: nn.Module) -> torch.optim.Optimizer:
    if case.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=0.01)
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)


def global_batch(case: Case, step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(case.global_size, 6, generator=generator)
    return inputs, torch.randn(case.global_size, 2, generator=generator)


def compute_loss(
    case: Case, model: nn.Module, inputs: Tensor, targets: Tensor, step: int
) -> Tensor:
    output = model(inputs, skips=case.skips and step % 2 == 1)
    loss: Tensor = (output - targets).square().mean()
    return loss


def train_plainly(case: Case) -> tuple[dict[str, Tensor], list[float]]:
    """Returns weights and gradient norms of a loop over whole global batches."""
    model = build_model(case)
    optimizer = build_optimizer(case, model)
    limit = case.clip_grad_norm or float("inf")
    norms = []
    for step in range(NUM_STEPS):
        optimizer.zero_grad()
        compute_loss(case, model, *global_batch(case, step), step).backward()  # type: ignore[no-untyped-call]  # torch's own
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), limit)))
        optimizer.step()
    return model.state_dict(), norms


def set_up(
    build: Callable[[], Strategy], case: Case, distributed: Distributed
) -> Strategy:
    strategy = build()
    strategy.setup(
        Setup(
            model=build_model(case),
            build_optimizer=lambda model: build_optimizer(case, model),
            distributed=distributed,
            precision=Precision.fp32,
            compile=case.compile,
            clip_grad_norm=case.clip_grad_norm,
        )
    )
    return strategy


def train(
    strategy: Strategy,
    case: Case,
    distributed: Distributed,
    steps: range = range(NUM_STEPS),
) -> list[float | None]:
    """Trains as the loop does; returns the gradient norms."""
    rank, world_size = distributed.rank, distributed.world_size
    share = split_batch(case.global_size, case.micro_size, rank, world_size)
    norms = []
    for step in steps:
        inputs, targets = global_batch(case, step)
        for number, part in enumerate(share, start=1):
            rows = slice(part.start, part.stop)
            with strategy.micro_batch(is_last=number == len(share)):
                with strategy.autocast():
                    loss = compute_loss(
                        case, strategy.model, inputs[rows], targets[rows], step
                    )
                strategy.backward(loss * part.size * world_size / case.global_size)
        norm = strategy.step()
        norms.append(None if norm is None else float(norm))
    return norms


def copy_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def run_case(
    build: Callable[[], Strategy], case: Case
) -> tuple[dict[str, Tensor], list[float | None]]:
    """Returns a rank's weights and gradient norms."""
    distributed = Distributed(use_gpu=False)
    strategy = set_up(build, case, distributed)
    norms = train(strategy, case, distributed)
    weights = copy_of(strategy.model_state())
    distributed.close()
    return weights, norms


def run_buffers(build: Callable[[], Strategy]) -> dict[str, dict[str, Tensor]]:
    """Returns a rank's buffers after a step, for evaluation, and in a state."""
    case = Case(model=Normalised)
    distributed = Distributed(use_gpu=False)
    found = {}
    strategy = set_up(build, case, distributed)
    train(strategy, case, distributed, range(1))
    found["after a step"] = copy_of(dict(strategy.model.named_buffers()))
    model = strategy.evaluation_model()
    found["evaluation"] = copy_of(dict(model.named_buffers()))
    train(strategy, case, distributed, range(1, 2))
    found["state"] = copy_of(strategy.state()["model"].state_dict())
    distributed.close()
    return found


def run_alone(build: Callable[[], Strategy]) -> list[Tensor]:
    """Returns what a rank's evaluation model gives, called a rank's number of times."""
    distributed = Distributed(use_gpu=False)
    strategy = set_up(build, Case(), distributed)
    model = strategy.evaluation_model().eval()
    with torch.no_grad():
        outputs = [model(torch.ones(1, 6)) for _ in range(1 + distributed.rank)]
    strategy.model.train()
    assert all(module.training for module in model.modules())
    distributed.close()
    return outputs


def run_names(build: Callable[[], Strategy]) -> dict[str, list[str]]:
    """Returns the names of the model's state, wherever it is asked for."""
    distributed = Distributed(use_gpu=False)
    strategy = set_up(build, Case(), distributed)
    found = {
        "model_state": list(strategy.model_state()),
        "state": list(strategy.state()["model"].state_dict()),
        "evaluation": list(strategy.evaluation_model().state_dict()),
    }
    distributed.close()
    return found


def run_resumed(build: Callable[[], Strategy], folder: Path) -> dict[str, Tensor]:
    """Returns a rank's weights after a save, a restore and the steps that are left."""
    case = Case(optimizer="adamw")
    distributed = Distributed(use_gpu=False)
    strategy = set_up(build, case, distributed)
    train(strategy, case, distributed, range(2))
    with CheckpointManager(folder, collective=distributed) as manager:
        manager.save(2, strategy.state()).wait()
        again = set_up(build, case, distributed)
        manager.restore(again.state())
    train(again, case, distributed, range(2, NUM_STEPS))
    weights = copy_of(again.model_state())
    distributed.close()
    return weights


def run_refused(build: Callable[[], Strategy]) -> str:
    """Returns what a rank is told when its model skips parameters unannounced."""
    try:
        run_case(build, SKIPPING)
    except RuntimeError as error:
        return str(error)
    return ""


CASES = {
    "whole share": Case(),
    "adamw": Case(optimizer="adamw"),
    "accumulated": Case(micro_size=3),
    "uneven shares": Case(global_size=11),
    "uneven micro-batches": Case(global_size=11, micro_size=4),
    "clipped": Case(clip_grad_norm=0.1, micro_size=3),
    "norm without a cut": Case(clip_grad_norm=1e6),
}
SKIPPING = Case(skips=True)


def run_all(
    build: Callable[[], Strategy], build_skipping: Callable[[], Strategy], folder: Path
) -> dict[str, Any]:
    """Returns everything that the tests look at, so that ranks start only once."""
    found: dict[str, Any] = {
        name: run_case(build, case) for name, case in CASES.items()
    }
    found["skipping"] = run_case(build_skipping, SKIPPING)
    found["buffers"] = run_buffers(build)
    found["alone"] = run_alone(build)
    found["names"] = run_names(build)
    found["resumed"] = run_resumed(build, folder)
    found["refusal"] = run_refused(build)
    return found
