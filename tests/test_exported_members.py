from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["checkpoints", "trainer"]


def find_faults(package: ModuleType) -> list[str]:
    """Returns how `__all__` differs from what the package's users can reach."""
    exported: list[str] = list(package.__all__)
    faults = []
    if exported != sorted(set(exported)):
        faults.append(f"__all__ is not sorted, or names something twice: {exported}")
    for name in exported:
        try:
            getattr(package, name)
        except AttributeError as error:
            faults.append(f"{name} is in __all__, but not there: {error}")
    public = {name for name in dir(package) if is_public(package, name)}
    faults += [f"{name} is not in __all__" for name in sorted(public - {*exported})]
    faults += [f"{name} is not in dir()" for name in sorted({*exported} - public)]
    return faults


def is_public(package: ModuleType, name: str) -> bool:
    """Whether a name is public; submodules and `annotations` are there by import."""
    if name.startswith("_") or name == "annotations":
        return False
    return not isinstance(getattr(package, name, None), ModuleType)


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_what_the_package_offers(name: str) -> None:
    assert find_faults(importlib.import_module(name)) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_a_name_that_is_not_there_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module(name).no_such_name


def test_importing_trainer_loads_neither_torch_nor_ray() -> None:
    heavy = ("torch", "ray", "numpy", "fsspec")
    command = f"import sys, trainer; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout.strip() == b"[]"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("__all__ = ['b', 'a']; a = b = 1", "not sorted"),
        ("__all__ = ['a', 'a']; a = 1", "twice"),
        ("__all__ = ['a']; a = b = 1", "b is not in __all__"),
        ("__all__ = ['a']", "a is in __all__, but not there"),
    ],
)
def test_the_comparison_finds_a_difference(code: str, fault: str) -> None:
    package = ModuleType("made_up")
    exec(code, package.__dict__)
    assert fault in "\n".join(find_faults(package))


def test_the_comparison_passes_a_lazy_package() -> None:
    package = ModuleType("made_up")
    code = """
from __future__ import annotations
import sys
__all__ = ["Lazy", "now"]
now = 1
def __getattr__(name):
    if name in __all__:
        return object()
    raise AttributeError(name)
def __dir__():
    return __all__
"""
    exec(code, package.__dict__)
    assert find_faults(package) == []
