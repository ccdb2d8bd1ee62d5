"""The wheel that a user installs: what is in it, and that it works from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[1]
IGNORED = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "runs"
)


def run(words: Sequence[str | Path], *, cwd: Path, python_path: Path | None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # From a copy: setuptools takes up what an earlier build left in the tree.
    source = tmp_path_factory.mktemp("source") / "tree"
    shutil.copytree(ROOT, source, ignore=IGNORED)
    target = tmp_path_factory.mktemp("wheel")
    words = ["-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation"]
    run([*words, "--wheel-dir", target, "."], cwd=source, python_path=None)
    [path] = target.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    words = ["-m", "pip", "install", "-qq", "--no-deps", "--no-compile"]
    run([*words, "--target", target, wheel], cwd=target, python_path=None)
    return target


def test_the_wheel_is_called_perennial(wheel: Path) -> None:
    assert wheel.name.startswith("perennial-")
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_wheel_holds_every_module_and_every_option(wheel: Path) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("checkpoints", "conf", "trainer")
        for pattern in ("*.py", "*.yaml", "py.typed")
        for path in (ROOT / package).rglob(pattern)
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    held = {name for name in names if ".dist-info/" not in name}
    assert any(name.startswith("conf/experiment/") for name in held)
    assert held == expected


def test_the_wheel_holds_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_import_trainer_is_ours_from_another_folder(
    installed: Path, tmp_path: Path
) -> None:
    command = "import trainer; trainer.load_config(); print(trainer.__file__)"
    out = run(["-c", command], cwd=tmp_path, python_path=installed)
    assert Path(out.strip()) == installed / "trainer" / "__init__.py"


def test_the_command_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    out = run(["-m", "trainer", "--help"], cwd=tmp_path, python_path=installed)
    assert "experiment" in out


def test_digits_train_from_the_wheel_in_an_empty_folder(
    installed: Path, tmp_path: Path
) -> None:
    words = ["experiment=digits", "name=short", "duration.max_steps=3"]
    run(["-m", "trainer", *words], cwd=tmp_path, python_path=installed)
    assert (tmp_path / "runs" / "short" / "result.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
