"""Two real ranks: what one of them suffers, both are told, and neither hangs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from checkpoints import (
    CheckpointError,
    CheckpointInfo,
    CheckpointManager,
    Mismatch,
    SaveHandle,
)
from tests.distributed import run_distributed


class Fragile:
    """A state that can be made to fail on one rank."""

    def __init__(self) -> None:
        self.value = float(dist.get_rank())
        self.bad_save_rank = self.bad_load_rank = -1

    def state_dict(self) -> dict[str, object]:
        # A collective, as sharded states have: it hangs unless every rank calls it.
        total = torch.ones(1)
        dist.all_reduce(total)
        if dist.get_rank() == self.bad_save_rank:
            raise RuntimeError("lost its device")
        return {"value": self.value, "ranks": int(total.item())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if dist.get_rank() == self.bad_load_rank:
            raise RuntimeError("cannot load")
        self.value = state_dict["value"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank has seen of the same saves and restores."""
    folder = tmp_path_factory.mktemp("shared")
    prepare_own_folders(folder)
    return run_distributed(both_save_and_restore, 2, str(folder))


def outcome(handle: SaveHandle) -> tuple[str, str]:
    try:
        return "info", str(handle.wait())
    except CheckpointError as err:
        return type(err).__name__, str(err)


def both_save_and_restore(folder: str) -> dict[str, Any]:
    rank = dist.get_rank()
    fragile = Fragile()
    seen: dict[str, Any] = {}
    with CheckpointManager(folder) as manager:
        state: dict[str, Any] = {"fragile": fragile, "x": torch.full((3,), float(rank))}
        seen["fresh"] = manager.restore(state)
        seen["saved"] = outcome(manager.save(1, state, metrics={"rank": rank}))
        seen["restored"] = manager.restore(state)
        seen["values"] = (fragile.value, state["x"].tolist())

        fragile.bad_save_rank = 1
        seen["rank 1 cannot save"] = outcome(manager.save(2, state))
        fragile.bad_save_rank = 0
        seen["rank 0 cannot save"] = outcome(manager.save(2, state))
        fragile.bad_save_rank = -1
        seen["refused"] = outcome(manager.save(2, {"x": {1} if rank == 0 else 1}))
        if rank == 0:
            Path(folder, "checkpoints", "step-00000002").write_text("in the way")
        seen["disk"] = outcome(manager.save(2, state))
        seen["steps"] = [info.step for info in manager.infos()]

        fragile.bad_load_rank = 1
        seen["rank 1 cannot load"] = error_of(manager, state)
        fragile.bad_load_rank = -1
        state["x"] = torch.zeros(3 if rank == 0 else 4)
        seen["rank 1 does not fit"] = error_of(manager, state)
    restore_own_folder(Path(folder), seen)
    dist.barrier()  # training's own group must have survived the manager's
    return seen


def error_of(manager: CheckpointManager, state: dict[str, Any]) -> tuple[str, str]:
    try:
        manager.restore(state)
    except CheckpointError as err:
        return type(err).__name__, str(err)
    return "none", ""


def test_both_ranks_share_every_outcome(seen: list[dict[str, Any]]) -> None:
    first, second = seen
    assert first["fresh"] is second["fresh"] is None
    for name in first.keys() - {"fresh"}:
        assert first[name] == second[name], name
    assert first["saved"][0] == "info"
    assert isinstance(first["restored"], CheckpointInfo)
    assert first["restored"].metrics == {"rank": 0.0}
    assert first["values"] == (0.0, [0.0] * 3)
    assert first["steps"] == [1]


def test_one_ranks_error_is_every_ranks_error_and_names_the_rank(
    seen: list[dict[str, Any]],
) -> None:
    first, _ = seen
    told = {name: value for name, value in first.items() if " cannot " in name}
    assert len(told) == 3
    for name, (kind, words) in told.items():
        assert kind == "CheckpointError"
        assert words.startswith(f"{name[:6]}: RuntimeError: "), words
    assert first["refused"][1].startswith("rank 0: state['x'] is a set")
    assert first["disk"][0] == "StorageError"
    assert first["rank 1 does not fit"][0] == Mismatch.__name__
    assert first["rank 1 does not fit"][1].startswith("rank 1: state['x'] is ")


def test_when_one_rank_cannot_read_a_step_all_fall_back_together(
    seen: list[dict[str, Any]],
) -> None:
    assert [rank["own folder"] for rank in seen] == [(1, 1.0)] * 2
    # Rank 0 can read it: it is not damaged, and it must not be taken away.
    assert [rank["own steps"] for rank in seen] == [[1, 2]] * 2


def restore_own_folder(folder: Path, seen: dict[str, Any]) -> None:
    target = {"x": torch.zeros(3)}
    with CheckpointManager(folder / str(dist.get_rank())) as manager:
        info = manager.restore(target)
        assert info is not None
        seen["own folder"] = info.step, target["x"][0].item()
        dist.barrier()  # rank 0 may still be tidying up
        seen["own steps"] = [info.step for info in manager.infos()]


def prepare_own_folders(folder: Path) -> None:
    with CheckpointManager(folder / "0") as manager:
        for step in (1, 2):
            manager.save(step, {"x": torch.full((3,), float(step))}).wait()
    shutil.copytree(folder / "0", folder / "1")
    [data] = (folder / "1/checkpoints/step-00000002").glob("*.bin")
    data.unlink()
