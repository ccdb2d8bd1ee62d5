from __future__ import annotations

from pathlib import Path

import pytest

from tests import architecture

ROOT = Path(__file__).parents[1]
PACKAGES = [name for name in architecture.ARROWS if (ROOT / name).is_dir()]


def find_faults(root: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folders = sorted({Path(name).parts[0] for name in files})
    return architecture.find_faults(architecture.read_sources(root, folders))


def test_the_packages_keep_to_the_architecture() -> None:
    sources = architecture.read_sources(ROOT, PACKAGES)
    assert len(sources) > 10, f"only {len(sources)} modules found below {ROOT}"
    assert architecture.find_faults(sources) == []


def test_the_tests_are_no_heaps_either() -> None:
    sources = architecture.read_sources(ROOT, ["tests"])
    assert architecture.find_heaps(sources) == []


def test_every_top_level_package_is_in_the_architecture() -> None:
    packages = {path.parent.name for path in ROOT.glob("[!.]*/__init__.py")}
    assert packages <= architecture.ARROWS.keys() | {"tests"}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("checkpoints/manager.py", "import trainer"),
        ("checkpoints/manager.py", "from trainer.errors import TrainerError"),
        ("checkpoints/manager.py", "def f():\n    import trainer.loop"),
        ("trainer/loop.py", "from tuning import tune"),
        ("clusters/spec.py", "import checkpoints as c"),
        ("trainer/loop.py", "from tests import fakes"),
        ("trainer/loop.py", "import importlib\nimportlib.import_module('tuning.x')"),
        (
            "checkpoints/manager.py",
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    from trainer import TrainTask",
        ),
    ],
)
def test_another_arrow_is_a_fault(tmp_path: Path, path: str, text: str) -> None:
    [fault] = find_faults(tmp_path, {path: text})
    assert fault.startswith(f"{path}:{len(text.splitlines())}: ")
    assert "may not import" in fault


def test_the_drawn_arrows_are_none(tmp_path: Path) -> None:
    files = {
        "trainer/worker.py": "from checkpoints import CheckpointManager",
        "tuning/tuner.py": "import trainer.launch, checkpoints",
        "checkpoints/manager.py": "from . import errors",
        "checkpoints/errors.py": "import trainers_of_another_name",
    }
    assert find_faults(tmp_path, files) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("trainer/loop.py", "import ray"),
        ("trainer/worker.py", "def f():\n    from ray.train import get_context"),
        ("trainer/strategies/ddp.py", "import deepspeed.comm"),
        ("trainer/tasks/corpus.py", "import fsspec"),
        ("checkpoints/manager.py", "import s3fs"),
        ("trainer/rules.py", "from omegaconf import DictConfig"),
        ("trainer/configuration.py", "import hydra"),
        ("tuning/tuner.py", "import optuna"),
        (
            "trainer/result.py",
            "import typing\nif typing.TYPE_CHECKING:\n    import ray",
        ),
    ],
)
def test_a_vendor_outside_its_home_is_a_fault(
    tmp_path: Path, path: str, text: str
) -> None:
    [fault] = find_faults(tmp_path, {path: text})
    assert fault.startswith(f"{path}:{len(text.splitlines())}: ")
    assert "is at home in" in fault


def test_vendors_may_stay_at_home(tmp_path: Path) -> None:
    files = {
        "trainer/launch.py": "import ray.train",
        "trainer/strategies/deepspeed.py": "import deepspeed",
        "checkpoints/storage.py": "import fsspec, s3fs",
        "trainer/config/schema.py": "from omegaconf import MISSING",
        "trainer/__main__.py": "import hydra",
        "tuning/config.py": "import hydra",
        "tuning/space.py": "import hydra, optuna",
    }
    assert find_faults(tmp_path, files) == []


def test_a_circle_is_a_fault(tmp_path: Path) -> None:
    files = {
        "trainer/__init__.py": "from trainer.loop import Trainer",
        "trainer/loop.py": "from trainer import callbacks",
        "trainer/callbacks.py": "if True:\n    from .state import State",
        "trainer/state.py": "class A:\n    import trainer.loop",
    }
    [fault] = find_faults(tmp_path, files)
    assert "trainer.loop -> trainer.callbacks -> trainer.state -> trainer.loop" in fault


def test_a_module_that_imports_from_its_own_package_is_a_circle(tmp_path: Path) -> None:
    files = {
        "trainer/__init__.py": "from .loop import Trainer",
        "trainer/loop.py": "from trainer import Trainer",
    }
    [fault] = find_faults(tmp_path, files)
    assert "trainer -> trainer.loop -> trainer" in fault


def test_lazy_and_typing_imports_make_no_circle(tmp_path: Path) -> None:
    files = {
        "trainer/loop.py": "import trainer.state",
        "trainer/state.py": (
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    import trainer.loop\n"
            "def f():\n    import trainer.loop\n"
        ),
    }
    assert find_faults(tmp_path, files) == []


@pytest.mark.parametrize("name", sorted(architecture.HEAPS))
def test_a_file_named_for_no_concept_is_a_fault(tmp_path: Path, name: str) -> None:
    [fault] = find_faults(tmp_path, {f"trainer/logging/{name}": ""})
    assert name in fault


def test_long_files_and_functions_are_faults(tmp_path: Path) -> None:
    body = "    pass\n" * architecture.MAX_FUNCTION_LINES
    files = {
        "trainer/long_file.py": "x = 1\n" * (architecture.MAX_FILE_LINES + 1),
        "trainer/long_function.py": f"def ok():\n{body[9:]}\nasync def long():\n{body}",
    }
    faults = find_faults(tmp_path, files)
    assert len(faults) == 2
    assert "301 lines" in faults[0]
    assert "long has 61 lines" in faults[1]
