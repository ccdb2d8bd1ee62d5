"""Equal digests mean equal weights, and a result survives its file."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from torch import Tensor, nn

from trainer.result import Status, TrainResult, model_digest


def state(**changes: Tensor) -> dict[str, Tensor]:
    base = {
        "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "bias": torch.zeros(2),
        "count": torch.tensor(7),
    }
    return {**base, **changes}


def test_the_digest_is_a_sha256_over_name_dtype_shape_and_bytes() -> None:
    tensor = torch.tensor([1.0, -2.0])
    expected = hashlib.sha256(
        b"w torch.float32 (2,)\n" + tensor.numpy().tobytes()
    ).hexdigest()
    assert model_digest({"w": tensor}) == expected


def test_the_order_of_the_names_does_not_matter() -> None:
    backwards = dict(reversed(list(state().items())))
    assert list(backwards) != list(state())
    assert model_digest(backwards) == model_digest(state())


def test_neither_memory_layout_nor_gradients_matter() -> None:
    column_major = state()["weight"].t().contiguous().t()
    assert not column_major.is_contiguous()
    assert model_digest(state(weight=column_major)) == model_digest(state())
    parameter = nn.Parameter(state()["weight"])
    assert model_digest(state(weight=parameter)) == model_digest(state())


@pytest.mark.parametrize(
    "changed",
    [
        state(weight=state()["weight"].reshape(3, 2)),
        state(weight=state()["weight"].double()),
        state(weight=state()["weight"].view(torch.int32)),  # the same bytes
        state(bias=torch.tensor([0.0, -0.0])),  # equal as numbers, not as bytes
        state(count=torch.tensor([7])),
        state(extra=torch.zeros(0)),
        {("heavy" if k == "weight" else k): v for k, v in state().items()},
        {name: value for name, value in state().items() if name != "count"},
    ],
    ids=["shape", "dtype", "view", "bytes", "0-dim", "empty", "name", "missing"],
)
def test_the_digest_tells(changed: dict[str, Tensor]) -> None:
    assert model_digest(changed) != model_digest(state())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool])
def test_every_dtype_has_a_digest(dtype: torch.dtype) -> None:
    ones = {"w": torch.ones(3, dtype=dtype)}
    assert model_digest(ones) == model_digest({"w": torch.ones(3, dtype=dtype)})
    assert model_digest(ones) != model_digest({"w": torch.zeros(3, dtype=dtype)})


def test_the_shapes_of_empty_tensors_count() -> None:
    shapes = [(0,), (0, 3), (3, 0)]
    digests = {model_digest({"w": torch.zeros(shape)}) for shape in shapes}
    assert len(digests) == 3


def test_a_result_comes_back_from_its_file() -> None:
    result = TrainResult(
        status=Status.PREEMPTED,
        name="mine",
        run_url="/runs/mine",
        step=120,
        samples_seen=7680,
        metrics={"train/loss": 0.125, "eval/accuracy": 0.97},
        best={"step": 100, "metric": "eval/loss", "value": 0.1},
        model_digest=None,
        checkpoint_url="/runs/mine/checkpoints/step-00000120",
        wall_time_s=12.5,
        num_restarts=2,
        num_preemptions=1,
        steps_lost=4,
        ledger={"train": 12.0, "checkpoint": 0.5},
        failures=[{"rank": 1, "message": "rank 1: KeyError"}],
    )
    written = json.dumps(result.to_json())
    assert json.loads(written)["status"] == "preempted"
    copy = TrainResult.from_json(json.loads(written))
    assert copy == result
    assert copy.status is Status.PREEMPTED
