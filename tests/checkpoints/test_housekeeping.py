"""Which steps stay, and what becomes of those that were never finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints import (
    CheckpointManager,
    StorageError,
)
from tests.checkpoints.steps import (
    save_steps,
    state,
    step_dir,
)


def test_the_latest_and_the_best_stay(tmp_path: Path) -> None:
    losses = {1: 0.9, 2: 0.1, 3: 0.5, 4: 0.6, 5: 0.7}
    with CheckpointManager(
        tmp_path, keep_latest=2, keep_best=1, metric="loss"
    ) as manager:
        for step, loss in losses.items():
            manager.save(step, state(step), metrics={"loss": loss}).wait()
        assert [info.step for info in manager.infos()] == [2, 4, 5]
        best = manager.best()
        assert best is not None
        assert (best.step, best.metrics) == (2, {"loss": 0.1})
        latest = manager.latest()
        assert latest is not None
        assert latest.step == 5
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(names) == [f"step-{step:08d}" for step in (2, 4, 5)]


def test_without_a_metric_none_is_best(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path, keep_latest=1, keep_best=3) as manager:
        save_steps(manager, 1, 2)
        assert [info.step for info in manager.infos()] == [2]
        assert manager.best() is None


def test_retention_counts_steps_of_earlier_processes(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path) as manager:
        save_steps(manager, 1, 2, 3)
    with CheckpointManager(tmp_path, keep_latest=1) as manager:
        save_steps(manager, 4)
        assert [info.step for info in manager.infos()] == [4]


def test_a_fault_while_tidying_up_fails_no_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(steps: object) -> None:
        raise StorageError("deletion is forbidden")

    with CheckpointManager(tmp_path, keep_latest=1) as manager:
        monkeypatch.setattr(manager._catalog, "remove", refuse)
        save_steps(manager, 1, 2)
    assert "could not be tidied up: deletion is forbidden" in caplog.text


def age(folder: Path, by_s: float) -> None:
    for path in folder.glob("*-rank0000.bin*"):
        start, rest = path.name.split("-", 1)
        path.rename(folder / f"{int(start) - int(by_s * 1000):013d}-{rest}")


def test_old_unfinished_steps_are_swept_and_young_ones_stay(
    manager: CheckpointManager,
) -> None:
    save_steps(manager, 1, 2, 3)
    folders = {step: step_dir(manager, step) for step in (1, 2, 3)}
    for step in (2, 3):
        (folders[step] / "manifest.json").unlink()
    age(folders[2], by_s=86400 + 60)
    age(folders[3], by_s=86400 - 60)
    manager.restore(state())
    assert not folders[2].exists()
    assert folders[3].exists()


def test_a_save_sweeps_too(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path, sweep_after_s=60) as manager:
        save_steps(manager, 1)
        folder = step_dir(manager, 1)
        (folder / "manifest.json").unlink()
        age(folder, by_s=61)
        save_steps(manager, 2)
    assert not folder.exists()


def test_foreign_files_beside_the_steps_are_left_alone(
    manager: CheckpointManager,
) -> None:
    root = Path(manager._catalog.url)
    (root / "step-final").mkdir(parents=True)
    (root / "notes.txt").write_text("keep")
    save_steps(manager, 1)
    assert manager.restore(state()) is not None
    assert (root / "notes.txt").exists()
    assert (root / "step-final").exists()
