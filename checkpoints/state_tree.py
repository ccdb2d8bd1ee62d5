"""The caller's objects: taking their state, checking a saved one, putting it back.

Owns the rule that nothing is modified before everything has been checked. Must never
know files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from checkpoints.errors import CheckpointError, Mismatch
from checkpoints.stateful import Stateful

Action = Callable[[], object]

_CONTAINERS = (dict, list, tuple, torch.Tensor, np.ndarray)


def collect_state(state: Mapping[str, object]) -> dict[str, object]:
    """Returns the tree with every object in it replaced by its `state_dict()`.

    Raises:
        CheckpointError: The state is no mapping of names.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"state is a {type(state).__name__}: it must map names to objects; "
            'write {"model": model, ...}'
        )
    return {name: _collect(value) for name, value in state.items()}


def plan_restore(state: Mapping[str, object], saved: object) -> list[Action]:
    """Returns the steps that put a saved tree into the caller's state.

    Nothing is modified before they run.

    Raises:
        Mismatch: A structure, shape or type does not fit; names its path.
    """
    actions: list[Action] = []
    if not isinstance(state, dict):
        state = dict(state)
    _plan_dict("state", state, saved, actions, adds=False)
    return actions


def left_out(state: Mapping[str, object], saved: object) -> list[str]:
    """Returns the names that a checkpoint holds and the caller's state does not."""
    assert isinstance(saved, dict)
    return [name for name in saved if name not in state]


def _collect(value: object) -> object:
    if isinstance(value, Stateful):
        return value.state_dict()
    if type(value) is dict:
        return {key: _collect(item) for key, item in value.items()}
    if type(value) is list:
        return [_collect(item) for item in value]
    if type(value) is tuple:
        return tuple(_collect(item) for item in value)
    return value


def _plan(
    path: str,
    target: object,
    saved: object,
    actions: list[Action],
    assign: Callable[[object], None],
) -> None:
    if isinstance(target, Stateful):
        _check_object(path, target, saved)
        actions.append(lambda: target.load_state_dict(saved))
    elif isinstance(target, torch.Tensor):
        _check_same(path, target, saved)
        actions.append(lambda: _copy_tensor(target, saved))
    elif isinstance(target, np.ndarray):
        _check_same(path, target, saved)
        actions.append(lambda: _copy_array(target, saved))
    elif isinstance(target, dict):
        _plan_dict(path, target, saved, actions, adds=True)
    elif isinstance(target, list | tuple):
        _plan_items(path, target, saved, actions, assign)
    else:
        if target is not None and isinstance(saved, _CONTAINERS):
            raise _other_kind(path, target, saved)
        actions.append(lambda: assign(saved))


def _plan_dict(
    path: str, target: dict[Any, Any], saved: object, actions: list[Action], adds: bool
) -> None:
    if not isinstance(saved, dict):
        raise _other_kind(path, target, saved)
    for key, value in target.items():
        inner = f"{path}[{key!r}]"
        if key not in saved:
            names = ", ".join(repr(name) for name in list(saved)[:20]) or "nothing"
            raise Mismatch(
                f"{inner} is not in the checkpoint, which has {names}: every name "
                "must have been saved; correct the name or leave it out"
            )
        _plan(inner, value, saved[key], actions, _setter(target, key))
    if adds:
        extra = {key: value for key, value in saved.items() if key not in target}
        actions.append(lambda: target.update(extra))


def _plan_items(
    path: str,
    target: list[Any] | tuple[Any, ...],
    saved: object,
    actions: list[Action],
    assign: Callable[[object], None],
) -> None:
    if type(saved) is not type(target):
        raise _other_kind(path, target, saved)
    assert isinstance(saved, list | tuple)
    if not _holds_objects(target):
        # Plain values only: such a list may have grown, so it takes the saved length.
        new = _replace_items(target, saved) if isinstance(target, list) else None
        actions.append(new or (lambda: assign(saved)))
        return
    if len(saved) != len(target):
        raise Mismatch(
            f"{path} has {len(target)} items, {len(saved)} were saved: a list that "
            "holds tensors or objects must keep its length; build it as it was"
        )
    for index, value in enumerate(target):
        inner = f"{path}[{index}]"
        if isinstance(target, tuple) and not _holds_objects(value):
            _check_equal(inner, value, saved[index])
        else:
            _plan(inner, value, saved[index], actions, _setter(target, index))


def _replace_items(target: list[Any], saved: list[Any] | tuple[Any, ...]) -> Action:
    def replace() -> None:
        target[:] = saved

    return replace


def _setter(container: Any, key: object) -> Callable[[object], None]:
    return lambda value: container.__setitem__(key, value)


def _check_equal(path: str, target: object, saved: object) -> None:
    if _holds_objects(saved) or target != saved:
        raise Mismatch(
            f"{path} is {target!r}, {saved!r} was saved: a tuple beside tensors cannot "
            "be changed in place; use a list"
        )


def _holds_objects(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_objects(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_objects(item) for item in value)
    return isinstance(value, torch.Tensor | np.ndarray | Stateful)


def _copy_tensor(target: torch.Tensor, saved: Any) -> None:
    with torch.no_grad():
        target.copy_(saved)


def _copy_array(target: np.ndarray[Any, Any], saved: Any) -> None:
    target[...] = saved


def _check_same(path: str, target: Any, saved: Any) -> None:
    kind = torch.Tensor if isinstance(target, torch.Tensor) else np.ndarray
    if not isinstance(saved, kind):
        raise _other_kind(path, target, saved)
    if target.shape != saved.shape or target.dtype != saved.dtype:
        raise Mismatch(
            f"{path} is {_form(target)}, {_form(saved)} was saved: shape and dtype "
            "must be equal; build it as it was, or start without this checkpoint"
        )


def _check_object(path: str, target: Stateful, saved: object) -> None:
    if isinstance(target, torch.optim.Optimizer):
        _check_optimizer(path, target, saved)
    is_strict = isinstance(target, torch.nn.Module)
    _check_overlap(path, target.state_dict(), saved, is_strict)


def _check_overlap(path: str, current: object, saved: object, is_strict: bool) -> None:
    # A fresh optimizer has no moments yet and a scheduler may keep what it likes, so
    # only modules must have the same names; tensors must fit wherever both have one.
    if isinstance(current, torch.Tensor) and (
        is_strict or isinstance(saved, torch.Tensor)
    ):
        _check_same(path, current, saved)
    elif isinstance(current, Mapping) and isinstance(saved, Mapping):
        if is_strict:
            _check_names(path, current, saved)
        for key in current.keys() & saved.keys():
            inner = f"{path}[{key!r}]"
            _check_overlap(inner, current[key], saved[key], is_strict)
    elif isinstance(current, list | tuple) and isinstance(saved, list | tuple):
        for index, pair in enumerate(zip(current, saved, strict=False)):
            _check_overlap(f"{path}[{index}]", *pair, is_strict)
    elif is_strict and isinstance(current, Mapping):
        raise _other_kind(path, current, saved)


def _check_names(
    path: str, current: Mapping[Any, Any], saved: Mapping[Any, Any]
) -> None:
    missing = [key for key in current if key not in saved]
    unknown = [key for key in saved if key not in current]
    if missing or unknown:
        name = (missing or unknown)[0]
        where = "is not in the checkpoint" if missing else "is only in the checkpoint"
        raise Mismatch(
            f"{path}[{name!r}] {where} ({len(missing)} names missing, {len(unknown)} "
            "unknown): the model must have the same names; build it as it was"
        )


def _check_optimizer(path: str, target: torch.optim.Optimizer, saved: object) -> None:
    groups = saved.get("param_groups") if isinstance(saved, dict) else None
    if not isinstance(groups, list):
        raise _other_kind(path, target, saved)
    there = [len(group["params"]) for group in groups]
    here = [len(group["params"]) for group in target.param_groups]
    if there != here:
        raise Mismatch(
            f"{path}['param_groups'] has {here} parameters by group, {there} were "
            "saved: they must be equal; build the optimizer as it was"
        )


def _form(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}"


def _other_kind(path: str, target: object, saved: object) -> Mismatch:
    shown = [
        f"{type(value).__name__} {_form(value)}"
        if isinstance(value, torch.Tensor | np.ndarray)
        else f"a {type(value).__name__}"
        for value in (target, saved)
    ]
    return Mismatch(
        f"{path} is {shown[0]}, {shown[1]} was saved: the kinds must be equal; "
        "build it as it was"
    )
