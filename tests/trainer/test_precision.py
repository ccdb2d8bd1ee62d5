"""The forward pass computes in the chosen type; weights and gradients stay fp32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from checkpoints import CheckpointManager
from trainer.config import Precision
from trainer.distributed import Distributed
from trainer.precision import MixedPrecision
from trainer.strategies import Setup
from trainer.strategies.single import SingleStrategy

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        (Precision.fp32, torch.float32),
        (Precision.bf16, torch.bfloat16),
        (Precision.fp16, torch.float16),
    ],
)
def test_the_forward_pass_is_in_the_type_and_gradients_in_fp32(
    precision: Precision, dtype: torch.dtype
) -> None:
    mixed = MixedPrecision(precision, CPU)
    layer = nn.Linear(4, 4)
    with mixed.autocast():
        output = layer(torch.randn(2, 4))
    assert output.dtype is dtype
    output.float().sum().backward()
    assert layer.weight.dtype is torch.float32
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype is torch.float32
    assert mixed.scaler.is_enabled() is (precision is Precision.fp16)


def build(precision: Precision, clip_grad_norm: float | None = None) -> SingleStrategy:
    torch.manual_seed(0)
    strategy = SingleStrategy()
    strategy.setup(
        Setup(
            model=nn.Linear(4, 1),
            build_optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
            distributed=Distributed(use_gpu=False),
            precision=precision,
            compile=False,
            clip_grad_norm=clip_grad_norm,
        )
    )
    return strategy


def train_step(strategy: SingleStrategy, scale: float = 1.0) -> torch.Tensor | None:
    with strategy.autocast():
        loss = strategy.model(torch.ones(3, 4)).mean()
    strategy.backward(loss.float() * scale)
    return strategy.step()


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    strategy = build(Precision.fp16)
    before = {n: t.clone() for n, t in strategy.model_state().items()}
    scale = strategy.state()["scaler"].get_scale()
    train_step(strategy, scale=float("inf"))
    assert strategy.state()["scaler"].get_scale() == scale / 2
    for name, tensor in strategy.model_state().items():
        assert torch.equal(tensor, before[name])
    train_step(strategy)
    assert not torch.equal(strategy.model_state()["weight"], before["weight"])


def test_the_norm_is_that_of_the_unscaled_gradient() -> None:
    norms = [
        # Halved: the first loss scale is just too large for these gradients.
        train_step(build(precision, clip_grad_norm=0.1), scale=0.5)
        for precision in (Precision.fp32, Precision.fp16)
    ]
    # The gradient is a half for each of 4 weights and the bias.
    for norm in norms:
        assert norm is not None
        assert norm.item() == pytest.approx(0.5 * 5**0.5, rel=1e-3)


def test_the_loss_scale_resumes(tmp_path: Path) -> None:
    strategy = build(Precision.fp16)
    for scale in (float("inf"), 1.0, 1.0):
        train_step(strategy, scale)
    with CheckpointManager(tmp_path) as manager:
        manager.save(3, strategy.state()).wait()
        again = build(Precision.fp16)
        manager.restore(again.state())
    saved, restored = strategy.state()["scaler"], again.state()["scaler"]
    assert restored.state_dict() == saved.state_dict()
    assert restored.get_scale() != build(Precision.fp16).state()["scaler"].get_scale()


def test_without_a_loss_scale_the_state_holds_none() -> None:
    assert set(build(Precision.bf16).state()) == {"model", "optimizer"}
