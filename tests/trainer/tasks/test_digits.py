"""The digits: a fixed split, batched reads, and a network that learns them."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainer.errors import ConfigError
from trainer.tasks.digits import DigitsData, DigitsTask


def _everything(data: DigitsData) -> tuple[Tensor, Tensor]:
    batch = data.__getitems__(range(len(data)))
    assert isinstance(batch, tuple)
    return batch


def _train(task: DigitsTask, *, num_steps: int, peak_lr: float = 5e-3) -> nn.Module:
    torch.manual_seed(0)
    data = task.build_datasets().train
    assert isinstance(data, DigitsData)
    model = task.build_model()
    optimizer = torch.optim.AdamW(task.parameter_groups(model), lr=peak_lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak_lr, total_steps=num_steps + 1
    )
    for _ in range(num_steps):
        indices = torch.randint(len(data), (64,)).tolist()
        batch = task.collate(data.__getitems__(indices))
        optimizer.zero_grad()
        task.compute_loss(model, batch).backward()  # type: ignore[no-untyped-call]  # torch's Tensor.backward
        optimizer.step()
        schedule.step()
    return model


def test_the_parts_are_disjoint_and_hold_every_digit() -> None:
    from sklearn.datasets import load_digits

    images = np.concatenate(
        [_everything(DigitsData(part))[0].numpy() for part in ("train", "eval")]
    ).reshape(-1, 64)
    everything = load_digits().data / 16.0

    assert len(images) == 1797
    assert sorted(map(bytes, images)) == sorted(
        map(bytes, everything.astype(np.float32))
    )


def test_the_held_out_part_has_its_share_of_every_class() -> None:
    train, held_out = (_everything(DigitsData(part))[1] for part in ("train", "eval"))
    share = held_out.bincount() / (held_out.bincount() + train.bincount())

    assert share.tolist() == pytest.approx([0.2] * 10, abs=0.01)


def test_the_split_does_not_depend_on_global_randomness() -> None:
    np.random.seed(1)
    first = DigitsData("eval").fingerprint
    np.random.seed(2)
    torch.manual_seed(2)

    assert DigitsData("eval").fingerprint == first
    assert DigitsData("train").fingerprint != first
    assert DigitsData("eval", eval_fraction=0.3).fingerprint != first


def test_a_batched_read_equals_single_reads() -> None:
    task, data = DigitsTask(), DigitsData("eval")
    indices = [5, 0, 5, 200]
    together = task.collate(data.__getitems__(indices))
    one_by_one = task.collate([data[index] for index in indices])

    assert all(map(torch.equal, together, one_by_one))
    assert together[0].shape == (4, 1, 8, 8)


def test_collate_passes_a_ready_batch_through_without_a_copy() -> None:
    batch = DigitsData().__getitems__([1, 2])

    assert DigitsTask().collate(batch) is batch


def test_names_make_dictionaries() -> None:
    data = DigitsData("eval", names=["pixel_values", "labels"])
    batch = data.__getitems__([1, 2])

    assert isinstance(batch, dict)
    assert list(batch) == ["pixel_values", "labels"]
    assert list(DigitsTask().collate([data[1], data[2]])) == list(batch)


def test_data_survive_pickling() -> None:
    data = DigitsData("eval")
    copy = pickle.loads(pickle.dumps(data))

    assert torch.equal(copy[3][0], _everything(data)[0][3])
    assert copy.fingerprint == data.fingerprint


def test_ten_epochs_reach_97_percent_on_held_out_digits() -> None:
    task = DigitsTask()
    model = _train(task, num_steps=220).eval()
    with torch.no_grad():
        metrics = task.evaluate_batch(model, _everything(DigitsData("eval")))

    assert set(metrics) == set(task.metric_names)
    assert metrics["accuracy"] >= 0.97


def test_equal_seeds_train_equal_bits() -> None:
    task = DigitsTask(width=4)
    first, second = (_train(task, num_steps=5).state_dict() for _ in range(2))

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_wrong_argument_is_named_with_the_words_that_mend_it() -> None:
    with pytest.raises(ConfigError) as caught:
        DigitsTask(width=0, dropout=1.0, eval_fraction=0.0)

    faults = {fault.path: fault for fault in caught.value.faults}
    assert list(faults) == ["task.width", "task.dropout", "task.eval_fraction"]
    assert faults["task.dropout"].remedy == "set task.dropout=0.1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": "evaluation"}, "part=evaluation: must be train or eval; .*part=eval"),
        ({"names": ["labels"]}, "must be two different keys"),
        ({"names": "labels"}, "must be two different keys"),
        ({"eval_fraction": 1e-9}, "must leave samples in both parts"),
    ],
)
def test_wrong_arguments_of_the_data_are_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DigitsData(**arguments)


def test_without_scikit_learn_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"perennial\[examples\]"):
        DigitsData()
