from __future__ import annotations

import argparse
import fractions
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainer.config import instantiate
from trainer.errors import ConfigError

NAMESPACE = "argparse.Namespace"


@dataclass(kw_only=True, slots=True)
class ThirdConfig:
    _target_: str = "fractions.Fraction"
    numerator: int = 1
    denominator: int = 3


@dataclass(kw_only=True, slots=True)
class OuterConfig:
    _target_: str = NAMESPACE
    part: Any = field(default_factory=ThirdConfig)
    sizes: Any = (1, 2)


def _keeping_extras(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def wrapper(self: Any, **kwargs: object) -> None:
        init(self, width=kwargs.pop("width", 8))
        self.extras = kwargs

    return wrapper


class WrappedConfig:
    """As transformers makes its configurations: the real __init__ takes anything."""

    @_keeping_extras
    def __init__(self, width: object) -> None:
        self.width = width


def mean_error(output: float, target: float) -> float:
    return abs(output - target)


def test_a_dataclass_is_built_with_what_lies_in_it() -> None:
    built = instantiate(OuterConfig())
    assert built == argparse.Namespace(part=fractions.Fraction(1, 3), sizes=[1, 2])


def test_containers_reach_the_target_plain() -> None:
    node = {"_target_": NAMESPACE, "options": {"a": [1, {"b": None}]}, "text": "${x}"}
    built = _namespace(node)
    assert built.options == {"a": [1, {"b": None}]}
    assert type(built.options) is dict
    assert type(built.options["a"]) is list
    assert built.text == "${x}"


def test_arguments_of_the_call_pass_through_as_they_are() -> None:
    groups = [{"params": object()}]
    built = _namespace({"_target_": NAMESPACE, "lr": 0.1}, groups=groups)
    assert built.groups is groups
    assert instantiate({"_target_": "fractions.Fraction"}, 4, denominator=6) == (
        fractions.Fraction(2, 3)
    )


def test_partial_gives_a_callable() -> None:
    node = {"_target_": "fractions.Fraction", "_partial_": True, "denominator": 4}
    make = instantiate(node)
    assert callable(make)
    assert make(2) == fractions.Fraction(1, 2)
    nested = _namespace({"_target_": NAMESPACE, "make": node})
    assert nested.make(1) == fractions.Fraction(1, 4)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"_target_": "no_such_module.Thing"},
            "task._target_=no_such_module.Thing: there is no module no_such_module"
            " installed or in the working directory; set task._target_=my_pkg.MyClass",
        ),
        (
            {"_target_": "fractions"},
            "task._target_=fractions: is a module, which cannot be called;"
            " set task._target_ to a class or function",
        ),
        (
            {"_target_": "string.Template", "tmplate": "x"},
            "task.tmplate=x: string.Template takes no such argument; it takes template;"
            " set task.template=x",
        ),
        (
            {"_target_": "string.Template"},
            "task=string.Template: cannot be called with these arguments: missing a"
            " required argument: 'template'; set task.template=VALUE",
        ),
        (
            {"_target_": NAMESPACE, "part": {"_target_": "string.Template", "x": 1}},
            "task.part.x=1: string.Template takes no such argument; it takes template;"
            " type ~task.part.x",
        ),
    ],
)
def test_a_target_that_does_not_fit_is_answered_with_its_path(
    node: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        instantiate(node, path="task")
    assert str(caught.value) == message


def test_keywords_that_only_the_wrapper_of_a_constructor_takes_are_accepted() -> None:
    target = f"{__name__}.{WrappedConfig.__qualname__}"
    built = instantiate({"_target_": target, "width": 3, "num_labels": 10})
    assert isinstance(built, WrappedConfig)
    assert vars(built) == {"width": 3, "extras": {"num_labels": 10}}


def test_a_function_without_its_arguments_is_offered_to_be_called_later() -> None:
    node: dict[str, object] = {"_target_": f"{__name__}.{mean_error.__qualname__}"}
    with pytest.raises(ConfigError) as caught:
        instantiate(node, path="task.loss")
    (fault,) = caught.value.faults
    assert fault.remedy == (
        "set task.loss._partial_=true to call it later, or set task.loss.output=VALUE"
    )
    loss = instantiate({**node, "_partial_": True}, path="task.loss")
    assert callable(loss)
    assert loss(3.0, 1.0) == 2.0


def test_a_misspelt_class_names_the_nearest_and_what_there_is() -> None:
    with pytest.raises(ConfigError) as caught:
        instantiate({"_target_": "fractions.Fracton"}, path="task")
    (fault,) = caught.value.faults
    assert fault.path == "task._target_"
    assert fault.rule.startswith("fractions has no Fracton; it has Decimal, Fraction")
    assert fault.remedy == "set task._target_=fractions.Fraction"


def test_every_target_that_does_not_fit_is_named_at_once() -> None:
    node = {
        "_target_": "string.Template",
        "tmplate": {"_target_": "no_such_module.Thing"},
        "others": [{"_target_": "fractions.Fracton"}],
    }
    with pytest.raises(ConfigError) as caught:
        instantiate(node, path="task")
    assert [fault.path for fault in caught.value.faults] == [
        "task.tmplate",
        "task.others",
        "task.tmplate._target_",
        "task.others[0]._target_",
    ]


@pytest.mark.parametrize("nested", [False, True])
def test_what_a_constructor_raises_passes_through(nested: bool) -> None:
    node: dict[str, object] = {"_target_": "fractions.Fraction", "numerator": 1}
    node["denominator"] = 0
    with pytest.raises(ZeroDivisionError):
        instantiate({"_target_": NAMESPACE, "part": node} if nested else node)


def test_an_error_inside_the_users_module_passes_through(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(workspace, "half_installed.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(str(workspace))
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        instantiate({"_target_": "half_installed.Task"}, path="task")


def _namespace(node: Mapping[str, object], groups: object = None) -> argparse.Namespace:
    built = instantiate(node, groups=groups)
    assert isinstance(built, argparse.Namespace)
    return built
