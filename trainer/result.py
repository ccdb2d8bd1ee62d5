"""What a run came to: `TrainResult`, and the digest of a model's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class Status(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    PREEMPTED = "preempted"  # interrupted; the same words continue it
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """The outcome of a run; `result.json` holds the same fields."""

    status: Status
    name: str
    run_url: str
    step: int  # optimizer steps done
    samples_seen: int
    metrics: dict[str, float]  # newest values, as train/<name> and eval/<name>
    best: dict[str, Any] | None  # step, metric, value of the best evaluation
    model_digest: str | None  # see `model_digest`; None when the run has not completed
    checkpoint_url: str | None  # newest committed checkpoint
    wall_time_s: float  # over all attempts, without the pauses between them
    num_restarts: int
    num_preemptions: int
    steps_lost: int  # logged steps that a later attempt had to repeat
    ledger: dict[str, float]  # seconds by phase; they sum to wall_time_s
    cost: float | None = None  # money spent; None when no prices are known
    failures: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as plain JSON values."""
        return {**asdict(self), "status": str(self.status)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainResult:
        """Returns the result that `to_json` wrote."""
        return cls(**{**values, "status": Status(values["status"])})


def model_digest(state: Mapping[str, Tensor]) -> str:
    """Returns a sha256 over a full model state: equal digests mean equal weights.

    Hashes name, dtype, shape and bytes of every tensor, sorted by name.
    """
    import torch

    digest = hashlib.sha256()
    # A module's own extra state, which may be any object, is no weight.
    values: Mapping[str, object] = state
    tensors = {k: v for k, v in values.items() if isinstance(v, torch.Tensor)}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
