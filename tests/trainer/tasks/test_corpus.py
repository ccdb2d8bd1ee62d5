"""Windows of a corpus: disjoint, complete, cheap to send, and clear when too short."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from trainer.tasks.corpus import CorpusData

TEXT = bytes(i * i % 251 for i in range(1000))


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    tmp_path.joinpath("a.txt").write_bytes(TEXT[:600])
    tmp_path.joinpath("b.txt").write_bytes(TEXT[600:])
    return {
        "files": str(tmp_path / "*.txt"),
        "cache_dir": str(tmp_path / "cache"),
        "context_length": 9,
        "eval_fraction": 0.25,
    }


def _pairs(data: CorpusData) -> tuple[Tensor, Tensor]:
    batch = data.__getitems__(range(len(data)))
    assert isinstance(batch, tuple)
    return batch


def _bytes(data: CorpusData) -> bytes:
    inputs_NT, targets_NT = _pairs(data)
    windows_NS = torch.cat([inputs_NT, targets_NT[:, -1:]], dim=1)
    return bytes(windows_NS.flatten().tolist())


def test_the_parts_cover_the_corpus_without_overlap(arguments: dict[str, Any]) -> None:
    train = CorpusData("train", **arguments)
    held_out = CorpusData("eval", **arguments)

    assert (len(train), len(held_out)) == (75, 25)
    assert _bytes(train) + _bytes(held_out) == TEXT


def test_targets_are_the_next_bytes(arguments: dict[str, Any]) -> None:
    inputs_NT, targets_NT = _pairs(CorpusData(**arguments))

    assert torch.equal(inputs_NT[:, 1:], targets_NT[:, :-1])
    assert inputs_NT.dtype == targets_NT.dtype == torch.int64
    assert inputs_NT.is_contiguous()
    assert targets_NT.is_contiguous()


def test_a_batched_read_equals_single_reads(arguments: dict[str, Any]) -> None:
    data = CorpusData(**arguments)
    indices = [7, 0, 7, 74]
    together = data.__getitems__(indices)
    one_by_one = default_collate([data[index] for index in indices])

    assert torch.equal(together[0], one_by_one[0])  # type: ignore[index]  # a pair
    assert torch.equal(together[1], one_by_one[1])  # type: ignore[index]  # a pair


def test_a_batch_can_be_changed_without_changing_the_corpus(
    arguments: dict[str, Any],
) -> None:
    data = CorpusData(**arguments)
    inputs_BT, _ = data.__getitems__([0, 1])
    assert isinstance(inputs_BT, Tensor)
    inputs_BT.zero_()

    assert _bytes(data) == TEXT[:750]


def test_names_give_the_same_bytes_under_both_keys(arguments: dict[str, Any]) -> None:
    data = CorpusData(**arguments, names=["input_ids", "labels"])
    batch = data.__getitems__([3, 4])

    assert isinstance(batch, dict)
    assert torch.equal(batch["input_ids"], batch["labels"])
    assert bytes(batch["input_ids"][0].tolist()) == TEXT[30:39]


def test_the_other_part_needs_no_second_preparation(arguments: dict[str, Any]) -> None:
    train = CorpusData("train", **arguments)
    held_out = train.part("eval")

    assert held_out.fingerprint == CorpusData("eval", **arguments).fingerprint
    assert train.fingerprint == CorpusData("train", **arguments).fingerprint
    assert _bytes(train) + _bytes(held_out) == TEXT


def test_the_fingerprint_is_of_the_content_and_the_cut(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    first = CorpusData(**arguments)
    elsewhere = CorpusData(**{**arguments, "cache_dir": str(tmp_path / "elsewhere")})
    longer = CorpusData(**{**arguments, "context_length": 19})
    tmp_path.joinpath("a.txt").write_bytes(bytes(600))
    changed = CorpusData(**arguments)

    assert elsewhere.fingerprint == first.fingerprint
    prints = {d.fingerprint for d in (first, first.part("eval"), longer, changed)}
    assert len(prints) == 4


def test_loader_processes_map_the_file_and_get_no_bytes(tmp_path: Path) -> None:
    tmp_path.joinpath("long.txt").write_bytes(TEXT * 1000)
    data = CorpusData(files=str(tmp_path / "*.txt"), cache_dir=str(tmp_path / "cache"))
    loader: DataLoader[Any] = DataLoader(
        data,  # type: ignore[arg-type]  # torch's Dataset is a class, ours has its shape
        batch_size=500,
        num_workers=1,
        multiprocessing_context="spawn",
        collate_fn=_as_read,
    )
    read = torch.cat([inputs_BT for inputs_BT, _ in loader])

    assert len(pickle.dumps(data)) < 2000
    assert torch.equal(read, _pairs(data)[0])


def _as_read(batch: object) -> object:
    return batch


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"context_length": 999},
            r"1000 bytes in 2 files: must hold .* 1000 bytes for each of two parts; .*"
            "smaller context_length",
        ),
        ({"context_length": 0}, "context_length=0: must be >= 1 byte; set"),
        ({"eval_fraction": 1.0}, "eval_fraction=1.0: must be between 0 and 1; set"),
        ({"part": "test"}, "part=test: must be train or eval"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CorpusData(**{**arguments, **changed})


def test_each_part_has_a_sample_even_at_an_extreme_fraction(
    arguments: dict[str, Any],
) -> None:
    for eval_fraction in (1e-9, 1 - 1e-9):
        train = CorpusData(**{**arguments, "eval_fraction": eval_fraction})
        assert {len(train), len(train.part("eval"))} == {1, 99}
