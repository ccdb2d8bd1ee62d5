"""The byte-level GPT: causal, tied, reproducible, and it learns."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from trainer.errors import ConfigError
from trainer.tasks.byte_gpt import ByteGpt, ByteGptTask, TransformerBlock

TEXT = "def add(left, right):\n    return left + right\n\n\n" * 200


@pytest.fixture
def task(tmp_path: Path) -> ByteGptTask:
    tmp_path.joinpath("source.txt").write_text(TEXT)
    return ByteGptTask(
        files=str(tmp_path / "*.txt"),
        cache_dir=str(tmp_path / "cache"),
        context_length=32,
        num_layers=2,
        num_heads=2,
        width=32,
    )


def _train(task: ByteGptTask, *, num_steps: int) -> tuple[nn.Module, list[float]]:
    torch.manual_seed(0)
    data = task.build_datasets().train
    model = task.build_model()
    optimizer = torch.optim.AdamW(task.parameter_groups(model), lr=1e-2)
    losses = []
    for _ in range(num_steps):
        indices = torch.randint(len(data), (16,)).tolist()
        batch = task.collate([data[index] for index in indices])
        loss = task.compute_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's Tensor.backward
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def test_no_position_sees_a_later_byte(task: ByteGptTask) -> None:
    model = task.build_model().eval()
    bytes_BT = torch.randint(256, (2, 32))
    changed_BT = bytes_BT.clone()
    changed_BT[:, 20] = (changed_BT[:, 20] + 1) % 256
    before_BTV, after_BTV = model(bytes_BT), model(changed_BT)

    torch.testing.assert_close(before_BTV[:, :20], after_BTV[:, :20])
    assert not torch.allclose(before_BTV[:, 20], after_BTV[:, 20])
    assert not torch.allclose(before_BTV[:, 31], after_BTV[:, 31])


def test_a_new_model_knows_next_to_nothing(task: ByteGptTask) -> None:
    model = task.build_model()
    batch = (torch.randint(256, (8, 32)), torch.randint(256, (8, 32)))

    assert task.compute_loss(model, batch).item() == pytest.approx(
        math.log(256), abs=0.2
    )


def test_weights_start_as_in_gpt_2(task: ByteGptTask) -> None:
    model = task.build_model()
    assert isinstance(model, ByteGpt)
    block = model.blocks[0]
    assert isinstance(block, TransformerBlock)

    assert block.project_up.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.project_down.weight.std().item() == pytest.approx(
        0.02 / math.sqrt(2 * 2), rel=0.1
    )
    assert block.project_up.bias.abs().sum() == 0


def test_the_embedding_is_also_the_last_layer(task: ByteGptTask) -> None:
    shapes = {name: tuple(p.shape) for name, p in task.build_model().named_parameters()}

    assert [name for name, shape in shapes.items() if 256 in shape] == [
        "byte_embedding.weight"
    ]


def test_a_few_steps_learn_a_short_text(task: ByteGptTask) -> None:
    model, losses = _train(task, num_steps=60)
    held_out = task.build_datasets().eval
    assert held_out is not None
    batch = task.collate([held_out[index] for index in range(len(held_out))])
    with torch.no_grad():
        metrics = task.evaluate_batch(model.eval(), batch)

    assert losses[0] > 5.0
    assert metrics["loss"] < 2.0
    assert set(metrics) == set(task.metric_names)
    assert metrics["bits_per_byte"] == pytest.approx(
        float(metrics["loss"]) / math.log(2)
    )


def test_equal_seeds_train_equal_bits_with_dropout(task: ByteGptTask) -> None:
    (first, losses), (second, again) = (_train(task, num_steps=4) for _ in range(2))

    assert losses == again
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_dropout_is_drawn_in_training_and_not_in_evaluation(task: ByteGptTask) -> None:
    model = task.build_model()
    bytes_BT = torch.randint(256, (2, 32))

    assert not torch.equal(model(bytes_BT), model(bytes_BT))
    model.eval()
    assert torch.equal(model(bytes_BT), model(bytes_BT))


def test_every_parameter_is_in_one_group_and_only_matrices_decay(
    task: ByteGptTask,
) -> None:
    model = task.build_model()
    decayed, others = task.parameter_groups(model)

    assert len(decayed["params"]) + len(others["params"]) == len(
        list(model.parameters())
    )
    assert all(p.ndim == 2 for p in decayed["params"])
    assert "weight_decay" not in decayed
    assert others["weight_decay"] == 0.0


def test_every_wrong_argument_is_named_with_the_words_that_mend_it() -> None:
    with pytest.raises(ConfigError) as caught:
        ByteGptTask(num_heads=3, width=128, dropout=-0.1, context_length=0)

    remedies = {fault.path: fault.remedy for fault in caught.value.faults}
    assert remedies == {
        "task.context_length": "set task.context_length=128",
        "task.width": "set task.width=129",
        "task.dropout": "set task.dropout=0.1",
    }
