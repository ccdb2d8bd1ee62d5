"""What is left when the process dies or the disk is full in the middle of a save."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from checkpoints import CheckpointManager, StorageError
from tests.checkpoints.endless_saver import make_state

NUM_KILLS = 20


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "tests.checkpoints.endless_saver", str(tmp_path)]
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with process:
        yield process


def kill_after(saver: subprocess.Popen[str], delay_s: float) -> list[int]:
    """Returns the steps that were acknowledged before the kill."""
    assert saver.stdin is not None
    assert saver.stdout is not None
    saver.stdin.write("go\n")
    saver.stdin.flush()
    lines = [saver.stdout.readline()]
    while not lines[-1].startswith("started"):
        lines.append(saver.stdout.readline())
    time.sleep(delay_s)
    os.kill(int(lines[-1].split()[1]), signal.SIGKILL)
    while lines[-1] != "ended\n":
        lines.append(saver.stdout.readline())
        assert lines[-1], "the saver itself has ended"
    return [int(line.split()[1]) for line in lines if line.startswith("saved")]


def test_after_any_kill_the_last_acknowledged_step_or_a_newer_one_loads(
    saver: subprocess.Popen[str], tmp_path: Path
) -> None:
    moments = random.Random(0)
    last, num_unfinished = 0, 0
    for _ in range(NUM_KILLS):
        acknowledged = kill_after(saver, moments.uniform(0.0, 0.15))
        last = max([last, *acknowledged])
        state = make_state(0)
        with CheckpointManager(tmp_path) as manager:
            num_unfinished += len(manager._catalog.steps()[1])
            for info in manager.infos():  # a manifest promises a whole step
                manager.restore(state, step=info.step)
            newest = manager.restore(state)
        restored = newest.step if newest else 0
        assert restored in {last, last + 1}  # the newest may lack only its answer
        assert state["progress"]["step"] == restored
        assert all(torch.all(x == restored) for x in state["tensors"].values())
        last = restored
    assert last >= NUM_KILLS, "too few saves for the kills to mean anything"
    assert num_unfinished > 0, "no kill has hit a save"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs the mount command to make a small disk")
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_fails_the_save_and_nothing_else(small_disk: Path) -> None:
    with CheckpointManager(small_disk / "run") as manager:
        manager.save(1, {"x": torch.ones(1000)}).wait()
        handle = manager.save(2, {"x": torch.ones(3 * 2**20)})
        with pytest.raises(StorageError, match="the storage must have room; free some"):
            handle.wait()
        assert [info.step for info in manager.infos()] == [1]
        assert list(small_disk.rglob("*.tmp")) == []
        target = {"x": torch.zeros(1000)}
        info = manager.restore(target)
        assert info is not None
        assert (info.step, target["x"].sum().item()) == (1, 1000.0)
        manager.save(2, {"x": torch.ones(1000)}).wait()


def test_a_disk_too_full_for_the_manifest_fails_the_save(small_disk: Path) -> None:
    with CheckpointManager(small_disk / "run") as manager:
        manager.save(1, {"x": torch.ones(1000)}).wait()
        text = "x" * (5 * 2**20)  # lies in the manifest
        handle = manager.save(2, {"x": torch.ones(1000), "text": text})
        with pytest.raises(StorageError, match="the storage must have room; free some"):
            handle.wait()
        assert [info.step for info in manager.infos()] == [1]
