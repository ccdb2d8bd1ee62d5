from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests import leaks

ROOT = Path(__file__).parents[1]


def test_nothing_is_reported_when_nothing_was_left() -> None:
    assert leaks.clear_leaks(leaks.look_around()) == []


def test_environment_variables_are_reported_and_put_back() -> None:
    os.environ["LEAKS_CHANGED"] = "old"
    os.environ["LEAKS_REMOVED"] = "old"
    before = leaks.look_around()
    os.environ["LEAKS_CHANGED"] = "new"
    os.environ["LEAKS_ADDED"] = "new"
    del os.environ["LEAKS_REMOVED"]
    lines = leaks.clear_leaks(before)
    assert [line.split("=")[0].split()[-1] for line in lines] == [
        "LEAKS_ADDED",
        "LEAKS_CHANGED",
        "LEAKS_REMOVED",
    ]
    assert os.environ.pop("LEAKS_CHANGED") == "old"
    assert os.environ.pop("LEAKS_REMOVED") == "old"
    assert "LEAKS_ADDED" not in os.environ


@pytest.mark.parametrize("is_daemon", [True, False])
def test_a_running_thread_is_reported(
    monkeypatch: pytest.MonkeyPatch, is_daemon: bool
) -> None:
    monkeypatch.setattr(leaks, "_GRACE_S", 0.1)
    before = leaks.look_around()
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="left over", daemon=is_daemon)
    thread.start()
    [line] = leaks.clear_leaks(before)
    end.set()
    thread.join()
    assert "'left over'" in line


def test_a_child_process_is_reported_and_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaks, "_GRACE_S", 0.1)
    before = leaks.look_around()
    child = subprocess.Popen(["sleep", "600"])
    [line] = leaks.clear_leaks(before)
    assert f"{child.pid} (sleep 600)" in line
    assert child.wait(timeout=10) is not None


def test_a_dead_child_that_nobody_waited_for_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaks, "_GRACE_S", 1.0)
    before = leaks.look_around()
    child = subprocess.Popen(["true"])
    [line] = leaks.clear_leaks(before)
    child.wait()
    assert "nobody waited for it" in line


def test_an_orphan_is_reported_and_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_GRACE_S", 1.0)
    before = leaks.look_around()
    command = "setsid sleep 600 >/dev/null & echo $!"
    pid = int(subprocess.check_output(["sh", "-c", command]))
    [line] = leaks.clear_leaks(before)
    assert f"{pid} (sleep 600)" in line
    is_dead = not psutil.pid_exists(pid) or (
        psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    )
    assert is_dead


def test_signal_handlers_and_the_working_dir_are_reported_and_put_back(
    tmp_path: Path,
) -> None:
    before = leaks.look_around()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.chdir(tmp_path)
    lines = leaks.clear_leaks(before)
    assert len(lines) == 2
    assert "SIGTERM" in lines[0]
    assert str(tmp_path) in lines[1]
    assert signal.getsignal(signal.SIGTERM) != signal.SIG_IGN
    assert Path.cwd() != tmp_path


LEAKING_TESTS = """
import os
import pytest

def test_that_leaves_a_variable():
    os.environ["LEFT_OVER"] = "1"

def test_that_leaves_a_process_group(tmp_path):
    import torch.distributed as dist
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )

def test_that_is_clean():
    import torch
    assert "LEFT_OVER" not in os.environ
    assert torch.get_num_threads() == 1
    assert not torch.distributed.is_initialized()

def test_in_a_workspace(workspace):
    assert os.path.samefile(os.curdir, workspace)

@pytest.mark.gpu
def test_on_a_gpu():
    pass
"""


def test_pytest_fails_a_test_that_leaves_something_behind(tmp_path: Path) -> None:
    (tmp_path / "test_leaking.py").write_text(LEAKING_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-rs", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "4 passed, 1 skipped, 2 errors" in done.stdout
    assert "the environment variable LEFT_OVER='1', before: None" in done.stdout
    assert "a torch process group" in done.stdout
    assert "needs a GPU" in done.stdout
