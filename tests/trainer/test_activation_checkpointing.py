"""Checkpointed modules compute the same gradients and only cost a second pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainer.activation_checkpointing import apply_activation_checkpointing
from trainer.errors import ConfigError


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.dropout = nn.Dropout(0.5)
        self.num_calls = 0

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        self.num_calls += 1
        return x + scale * torch.tanh(self.dropout(self.linear(x)))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, scale=0.5)
        out: Tensor = self.head(x)
        return out


def build(*class_names: str) -> Model:
    torch.manual_seed(0)
    model = Model()
    apply_activation_checkpointing(model, class_names)
    return model


def gradients(model: Model) -> dict[str, Tensor]:
    torch.manual_seed(1)
    loss = model(torch.randn(5, 8)).square().mean()
    loss.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def num_calls(model: Model) -> list[int]:
    return [block.num_calls for block in model.modules() if isinstance(block, Block)]


def test_gradients_are_the_same_bits_with_dropout() -> None:
    plain, checkpointed = build(), build("Block")
    expected, found = gradients(plain), gradients(checkpointed)
    assert found.keys() == expected.keys()
    assert len(found) == 8
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
    assert num_calls(plain) == [1, 1, 1]
    assert num_calls(checkpointed) == [2, 2, 2]


def test_without_gradients_nothing_runs_twice() -> None:
    model = build("Block").eval()
    with torch.no_grad():
        model(torch.randn(5, 8))
    assert num_calls(model) == [1, 1, 1]


def test_names_of_the_state_stay() -> None:
    assert list(build("Block").state_dict()) == list(build().state_dict())


def test_several_classes_can_be_named() -> None:
    expected = gradients(build())
    for name, gradient in gradients(build("Block", "Linear")).items():
        assert torch.equal(gradient, expected[name]), name


def test_an_unknown_class_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        build("Blocks")
    [fault] = caught.value.faults
    assert fault.path == "activation_checkpointing"
    assert "it has Block, Dropout, Linear, Model, ModuleList" in fault.rule
    assert fault.remedy == "activation_checkpointing=[Block]"
