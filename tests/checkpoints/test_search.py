"""Damaged and unfinished steps, and what is restored in their place."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

from checkpoints import (
    CheckpointError,
    CheckpointManager,
    Corrupt,
    Incomplete,
    Mismatch,
    NotFound,
)
from tests.checkpoints.steps import (
    data_file,
    flip_a_byte,
    save_steps,
    state,
    step_dir,
)


def test_a_step_that_is_not_committed_is_not_found(manager: CheckpointManager) -> None:
    save_steps(manager, 1, 2)
    with pytest.raises(NotFound, match=r"step=3: must be one of .*\[1, 2\]"):
        manager.restore(state(), step=3)


def test_a_given_step_is_restored(manager: CheckpointManager) -> None:
    save_steps(manager, 1, 2)
    target = state()
    info = manager.restore(target, step=1)
    assert info is not None
    assert (info.step, target["x"][0].item()) == (1, 1.0)


def test_a_given_step_that_is_damaged_is_not_replaced(
    manager: CheckpointManager,
) -> None:
    save_steps(manager, 1, 2)
    flip_a_byte(data_file(manager, 2), 10)
    with pytest.raises(Corrupt, match=r"state\['x'\]"):
        manager.restore(state(), step=2)
    assert [info.step for info in manager.infos()] == [1, 2]


def damage(manager: CheckpointManager, kind: str) -> None:
    data, manifest = data_file(manager, 2), step_dir(manager, 2) / "manifest.json"
    if kind == "flipped data":
        flip_a_byte(data, 123)
    elif kind == "flipped manifest":
        flip_a_byte(manifest, 200)
    elif kind == "cut data":
        os.truncate(data, data.stat().st_size - 1)
    elif kind == "cut manifest":
        os.truncate(manifest, manifest.stat().st_size // 2)
    elif kind == "empty manifest":
        os.truncate(manifest, 0)
    elif kind == "longer data":
        data.write_bytes(data.read_bytes() + b"x")
    elif kind == "missing data":
        data.unlink()
    elif kind == "foreign manifest":
        shutil.copy(step_dir(manager, 1) / "manifest.json", manifest)


@pytest.mark.parametrize(
    "kind",
    [
        "flipped data",
        "flipped manifest",
        "cut data",
        "cut manifest",
        "empty manifest",
        "longer data",
        "missing data",
        "foreign manifest",
    ],
)
def test_a_damaged_newest_step_is_named_skipped_and_can_be_saved_again(
    manager: CheckpointManager, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_steps(manager, 1, 2)
    folder = step_dir(manager, 2)
    damage(manager, kind)
    target = state()
    info = manager.restore(target)
    assert info is not None
    assert (info.step, target["x"][0].item(), target["progress"]["step"]) == (1, 1, 1)
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert any("checkpoint skipped" in w and folder.name in w for w in warnings)
    assert (folder / "manifest.damaged.json").exists()
    save_steps(manager, 2)
    info = manager.restore(target)
    assert info is not None
    assert (info.step, target["x"][0].item()) == (2, 2.0)


def test_without_checksums_a_flipped_byte_passes_and_a_cut_does_not(
    tmp_path: Path,
) -> None:
    with CheckpointManager(tmp_path, verify="sizes") as manager:
        save_steps(manager, 1, 2)
        flip_a_byte(data_file(manager, 2), 10)
        info = manager.restore(state())
        assert info is not None
        assert info.step == 2
        os.truncate(data_file(manager, 2), 10)
        info = manager.restore(state())
        assert info is not None
        assert info.step == 1


def test_when_nothing_is_valid_each_step_is_named_and_nothing_touched(
    manager: CheckpointManager,
) -> None:
    save_steps(manager, 1, 2)
    data_file(manager, 1).unlink()
    flip_a_byte(data_file(manager, 2), 0)
    before = sorted(str(path) for path in Path(manager._catalog.url).rglob("*"))
    with pytest.raises(Corrupt) as caught:
        manager.restore(state())
    assert "step-00000001: " in str(caught.value)
    assert "step-00000002: " in str(caught.value)
    after = sorted(str(path) for path in Path(manager._catalog.url).rglob("*"))
    assert before == after


def test_a_missing_file_of_a_given_step_is_incomplete(
    manager: CheckpointManager,
) -> None:
    save_steps(manager, 1)
    data_file(manager, 1).unlink()
    with pytest.raises(Incomplete, match=r"rank0000\.bin is missing"):
        manager.restore(state(), step=1)


def test_an_unfinished_newer_step_is_named_and_can_be_saved(
    manager: CheckpointManager, caplog: pytest.LogCaptureFixture
) -> None:
    save_steps(manager, 1, 2)
    (step_dir(manager, 2) / "manifest.json").unlink()
    info = manager.restore(state())
    assert info is not None
    assert info.step == 1
    assert "step-00000002: unfinished" in caplog.text
    save_steps(manager, 2)


def test_a_run_of_which_nothing_was_finished_starts_anew(
    manager: CheckpointManager,
) -> None:
    save_steps(manager, 1)
    (step_dir(manager, 1) / "manifest.json").unlink()
    assert manager.restore(state()) is None


def test_a_mismatch_is_no_reason_to_fall_back(manager: CheckpointManager) -> None:
    save_steps(manager, 1, 2)
    target = {"progress": {"step": 0}, "x": torch.zeros(99)}
    with pytest.raises(Mismatch, match=r"state\['x'\].*\[99\].*\[100\]"):
        manager.restore(target)
    assert target["progress"] == {"step": 0}


def test_a_manifest_of_a_newer_release_is_neither_skipped_nor_touched(
    manager: CheckpointManager,
) -> None:
    from checkpoints.manifest import _canonical, _digest

    save_steps(manager, 1, 2)
    path = step_dir(manager, 2) / "manifest.json"
    body = json.loads(path.read_bytes())["body"] | {"format_version": 99}
    text = _canonical(body)
    path.write_text(json.dumps({"body": body, "checksum": _digest(text)}))
    with pytest.raises(CheckpointError, match="format_version=99"):
        manager.restore(state())
    assert path.exists()
