"""Saving and restoring in one process."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from checkpoints import (
    CheckpointError,
    CheckpointManager,
)
from tests.checkpoints.conftest import Place, S3Server
from tests.checkpoints.steps import (
    save_steps,
    state,
    step_dir,
)


def test_a_model_and_its_optimizer_continue_bit_for_bit(
    manager: CheckpointManager,
) -> None:
    def build() -> dict[str, Any]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
        return {"model": model, "optimizer": optimizer, "schedule": schedule}

    def train(parts: dict[str, Any], *steps: int) -> list[torch.Tensor]:
        for step in steps:
            torch.manual_seed(step)
            parts["optimizer"].zero_grad()
            parts["model"](torch.randn(16, 4)).square().mean().backward()
            parts["optimizer"].step()
            parts["schedule"].step()
        return [value.clone() for value in parts["model"].state_dict().values()]

    whole = train(build(), *range(8))
    first = build()
    train(first, *range(4))
    manager.save(4, first).wait()
    second = build()
    assert manager.restore(second) is not None
    resumed = train(second, *range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_every_storage_restores_what_was_saved(place: Place) -> None:
    with CheckpointManager(place.url, storage_options=place.options) as manager:
        assert manager.restore(state()) is None
        assert manager.latest() is None
        info = manager.save(3, state(3.0), metrics={"loss": 0.5}).wait()
        target = state()
        assert manager.restore(target) == info
        assert manager.infos() == [info]
    assert info.url == f"{place.url}/checkpoints/step-00000003"
    assert (info.step, info.metrics, info.size_bytes) == (3, {"loss": 0.5}, 400)
    assert abs(info.created_at - time.time()) < 60
    assert target["x"].tolist() == [3.0] * 100
    assert target["progress"] == {"step": 3}


def test_what_changes_after_save_is_not_saved(manager: CheckpointManager) -> None:
    current = state(1.0)
    handle = manager.save(1, current)
    current["x"] += 5
    current["progress"]["step"] = 9
    handle.wait()
    target = state()
    manager.restore(target)
    assert target["x"][0].item() == 1.0
    assert target["progress"] == {"step": 1}


def test_a_handle_is_done_and_gives_the_same_info_again(
    manager: CheckpointManager,
) -> None:
    handle = manager.save(1, state())
    assert handle.done()
    assert handle.wait(timeout_s=1.0) == handle.wait() == manager.latest()


def test_a_state_without_tensors_is_saved(manager: CheckpointManager) -> None:
    info = manager.save(1, {"progress": {"loss": math.nan}}).wait()
    target: dict[str, Any] = {"progress": {"loss": 0.0}}
    manager.restore(target)
    assert math.isnan(target["progress"]["loss"])
    assert info.size_bytes == 0


def test_a_state_that_cannot_be_saved_raises_in_wait(
    manager: CheckpointManager,
) -> None:
    handle = manager.save(1, {"model": {"x": {1, 2}}})
    with pytest.raises(CheckpointError, match=r"state\['model'\]\['x'\] is a set"):
        handle.wait()
    assert manager.infos() == []
    save_steps(manager, 1)


def test_a_state_dict_that_raises_is_told_with_its_cause(
    manager: CheckpointManager,
) -> None:
    class Broken:
        def state_dict(self) -> dict[str, object]:
            raise RuntimeError("device lost")

        def load_state_dict(self, state_dict: object) -> None: ...

    handle = manager.save(1, {"broken": Broken()})
    with pytest.raises(CheckpointError, match="RuntimeError: device lost") as caught:
        handle.wait()
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert manager.infos() == []


def test_wait_raises_a_failure_that_no_handle_reported(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path)
    handle = manager.save(1, {"x": {1}})
    with pytest.raises(CheckpointError):
        manager.wait()
    with pytest.raises(CheckpointError):
        handle.wait()
    manager.wait()
    manager.close()


def test_leaving_the_block_raises_an_unreported_failure(tmp_path: Path) -> None:
    with (
        pytest.raises(CheckpointError, match="is a set"),
        CheckpointManager(tmp_path) as manager,
    ):
        manager.save(1, {"x": {1}})


def test_a_closed_manager_refuses_in_words(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path)
    manager.close()
    manager.close()
    for call in (lambda: manager.save(1, {}), lambda: manager.restore({})):
        with pytest.raises(CheckpointError, match="manager is closed"):
            call()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep_latest": 0}, "keep_latest=0: must be >= 1, because resume needs one"),
        ({"keep_best": -1}, "keep_best=-1: must be >= 0"),
        ({"sweep_after_s": -1.0}, r"sweep_after_s=-1\.0: must be >= 0"),
        ({"mode": "lowest"}, "mode='lowest': must be one of"),
        ({"verify": "none"}, "verify='none': must be one of"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        CheckpointManager(tmp_path, **options)


@pytest.mark.parametrize("step", [-1, 1.0, True, "1"])
def test_a_step_that_is_no_count_is_refused(
    manager: CheckpointManager, step: Any
) -> None:
    with pytest.raises(ValueError, match="must be an int >= 0"):
        manager.save(step, {})


def test_a_second_save_of_a_step_is_refused_and_the_first_stays(
    manager: CheckpointManager,
) -> None:
    save_steps(manager, 1)
    handle = manager.save(1, state(7.0))
    with pytest.raises(CheckpointError, match="another process writes into this run"):
        handle.wait()
    target = state()
    manager.restore(target)
    assert target["x"][0].item() == 1.0
    assert len(list(step_dir(manager, 1).iterdir())) == 2


def test_the_loser_of_a_race_takes_its_data_away(
    manager: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_steps(manager, 1)
    # As if the other process had committed after the check, during our write.
    monkeypatch.setattr(manager._catalog, "require_free", lambda step: None)
    handle = manager.save(1, state(7.0))
    with pytest.raises(CheckpointError, match="another process writes into this run"):
        handle.wait()
    assert len(list(step_dir(manager, 1).iterdir())) == 2


def test_names_left_out_of_a_restore_are_logged(
    manager: CheckpointManager, caplog: pytest.LogCaptureFixture
) -> None:
    save_steps(manager, 1)
    manager.restore({"x": torch.zeros(100)})
    assert "in the checkpoint, but not restored: progress" in caplog.text


def test_two_processes_cannot_both_commit_a_step_on_s3(s3_server: S3Server) -> None:
    url = f"s3://{s3_server.new_bucket()}/run"
    first = CheckpointManager(url, storage_options=s3_server.options)
    second = CheckpointManager(url, storage_options=s3_server.options)
    first.save(1, state(1.0)).wait()
    handle = second.save(1, state(2.0))
    with pytest.raises(CheckpointError, match="another process"):
        handle.wait()
    target = state()
    second.restore(target)
    assert target["x"][0].item() == 1.0
    first.close()
    second.close()
