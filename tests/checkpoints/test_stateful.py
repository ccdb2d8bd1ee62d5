from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import CheckpointManager, RngState, Stateful


def draw() -> list[Any]:
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        torch.rand(2).tolist(),
        torch.randn(3).tolist(),
    ]


def test_restored_generators_repeat_their_numbers(tmp_path: Path) -> None:
    draw()  # leaves half of a pair of normal numbers in Python's and numpy's generator
    manager = CheckpointManager(tmp_path)
    manager.save(1, {"rng": RngState()}).wait()
    expected = draw()
    assert draw() != expected
    manager.restore({"rng": RngState()})
    assert draw() == expected
    manager.close()


@pytest.mark.gpu
def test_restored_cuda_generators_repeat_their_numbers(tmp_path: Path) -> None:
    torch.rand(1, device="cuda")
    manager = CheckpointManager(tmp_path)
    manager.save(1, {"rng": RngState()}).wait()
    expected = torch.rand(4, device="cuda").tolist()
    manager.restore({"rng": RngState()})
    assert torch.rand(4, device="cuda").tolist() == expected
    manager.close()


def test_cuda_state_without_a_device_is_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rng = RngState()
    state = rng.state_dict() | {"cuda": [torch.get_rng_state()]}
    rng.load_state_dict(state)
    assert "1 CUDA devices was saved, 0 are here" in caplog.text


def test_torchs_objects_are_stateful() -> None:
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 1, 3])
    assert all(isinstance(x, Stateful) for x in (model, optimizer, schedule))
    assert not isinstance({}, Stateful)
