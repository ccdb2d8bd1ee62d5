"""Builds the object that a target node describes, nested ones included.

Says which dotted path is at fault when a name cannot be found or an argument does not
fit. What a constructor itself raises passes through untouched. Must never import the
module of a target before it is asked to build it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException

from trainer.config.arguments import argument, items_of, targets_below
from trainer.config.naming import listed, nearest
from trainer.config.redaction import redact_value
from trainer.errors import ConfigError, Fault

# Hydra resolves a node twice, and each time takes one level of escapes away.
_LITERAL = r"\\\${"
_SPECIAL = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


def instantiate(
    node: object, /, *args: object, path: str = "", **kwargs: object
) -> object:
    """Returns what the target node builds, with plain lists and dictionaries.

    Args:
        node: a dataclass or dictionary with ``_target_`` and keyword arguments;
            ``_partial_: true`` gives a callable instead.
        args: passed on before the node's own arguments, as they are.
        path: where the node stands in the configuration, for the faults.
        kwargs: passed on beside the node's own arguments, as they are.

    Raises:
        ConfigError: a target cannot be found or does not take the arguments; names
            every such fault.
    """
    faults: list[Fault] = []
    for place, target in targets_below(node, path):
        is_top = target is node
        extra = (args, kwargs) if is_top else ((), {})
        faults += _faults_of(target, place, *extra)
    if faults:
        raise ConfigError(faults)
    plain = _plain(node)
    is_partial = plain.pop("_partial_", False)
    # The arguments given here reach the target as they are: Hydra would copy them
    # into a configuration first.
    factory = _build({**plain, "_partial_": True, "_convert_": "all"})
    if is_partial:
        return functools.partial(factory, *args, **kwargs)
    return factory(*args, **kwargs)


def _build(node: dict[str, Any]) -> Callable[..., Any]:
    try:
        factory: Callable[..., Any] = hydra.utils.instantiate(node)
    except InstantiationException as error:
        if error.__cause__ is not None:
            raise error.__cause__ from None
        raise
    return factory


def _plain(node: object) -> Any:
    """Gives dictionaries for dataclasses; text is kept from a second interpolation."""
    if isinstance(node, dict) or (is_dataclass(node) and not isinstance(node, type)):
        return {name: _plain(value) for name, value in items_of(node)}
    if isinstance(node, list | tuple):
        return [_plain(item) for item in node]
    if isinstance(node, Enum):
        return node
    return node.replace("${", _LITERAL) if isinstance(node, str) else node


def _faults_of(
    node: object, path: str, args: tuple[object, ...], kwargs: dict[str, object]
) -> Iterator[Fault]:
    name = argument(node, "_target_")
    prefix = f"{path}." if path else ""
    found = _locate(str(name), f"{prefix}_target_")
    if isinstance(found, Fault):
        yield found
        return
    given = {key: value for key, value in items_of(node) if key not in _SPECIAL}
    positional = args or tuple(argument(node, "_args_") or ())
    is_partial = bool(argument(node, "_partial_"))
    yield from _argument_faults(
        found, prefix, positional, {**given, **kwargs}, is_partial=is_partial
    )


def _locate(name: str, path: str) -> Any:
    """Gives the object called `name`, or the fault that says which part is unknown.

    An error inside the user's module passes through: its traceback says more.
    """
    parts = name.split(".")
    found: Any = None
    for index, part in enumerate(parts):
        module = ".".join(parts[: index + 1])
        if found is not None and hasattr(found, part):
            found = getattr(found, part)
            continue
        if found is not None and not inspect.ismodule(found):
            return _unknown_name(name, parts[:index], part, path, dir(found))
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            valid = dir(found) if found is not None else []
            return _unknown_name(name, parts[:index], part, path, valid)
    if not callable(found):
        rule = f"is a {type(found).__name__}, which cannot be called"
        remedy = f"set {path} to a class or function"
        return Fault(path=path, value=name, rule=rule, remedy=remedy)
    return found


def _unknown_name(
    name: str, parents: list[str], part: str, path: str, valid: list[str]
) -> Fault:
    parent = ".".join(parents)
    public = [candidate for candidate in valid if not candidate.startswith("_")]
    near = nearest(part, public)
    if not parents:
        rule = f"there is no module {part} installed or in the working directory"
    else:
        rule = f"{parent} has no {part}; it has {listed(public)}"
    remedy = f"{parent}.{near}" if near else "my_pkg.MyClass"
    return Fault(path=path, value=name, rule=rule, remedy=f"set {path}={remedy}")


def _argument_faults(
    target: Any,
    prefix: str,
    args: tuple[object, ...],
    kwargs: dict[str, Any],
    *,
    is_partial: bool,
) -> Iterator[Fault]:
    try:
        signature = inspect.signature(target)
    except (ValueError, TypeError):
        return  # a built-in that does not say what it takes
    label = f"{target.__module__}.{getattr(target, '__qualname__', target)}"
    valid = _keywords(signature)
    unknown = [name for name in kwargs if name not in valid]
    if unknown and not _takes_any_keyword(target, signature):
        for name in unknown:
            yield _unknown_argument(label, prefix, name, kwargs[name], valid)
        return
    if is_partial:
        return
    known = {name: value for name, value in kwargs.items() if name in valid}
    try:
        signature.bind(*args, **known)
    except TypeError as error:
        remedy = f"set {prefix}{_first_missing(signature, args, known)}=VALUE"
        if inspect.isroutine(target):
            remedy = f"set {prefix}_partial_=true to call it later, or {remedy}"
        yield Fault(
            path=prefix.rstrip(".") or label,
            value=label,
            rule=f"cannot be called with these arguments: {error}",
            remedy=remedy,
        )


def _takes_any_keyword(target: Any, signature: inspect.Signature) -> bool:
    signatures = [signature]
    if inspect.isclass(target) and hasattr(target.__init__, "__wrapped__"):
        # What is wrapped may take less than what is called: the configurations of
        # transformers are dataclasses inside an __init__ that takes any keyword.
        init = inspect.signature(target.__init__, follow_wrapped=False)
        signatures.append(init)
    kinds = {p.kind for s in signatures for p in s.parameters.values()}
    return inspect.Parameter.VAR_KEYWORD in kinds


def _keywords(signature: inspect.Signature) -> list[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, p in signature.parameters.items() if p.kind in named]


def _first_missing(
    signature: inspect.Signature, args: tuple[object, ...], kwargs: dict[str, Any]
) -> str:
    for name in _keywords(signature)[len(args) :]:
        parameter = signature.parameters[name]
        if name not in kwargs and parameter.default is inspect.Parameter.empty:
            return name
    return "KEY"


def _unknown_argument(
    label: str, prefix: str, name: str, value: object, valid: list[str]
) -> Fault:
    near = nearest(name, valid)
    shown = redact_value(f"{prefix}{name}", value)
    return Fault(
        path=f"{prefix}{name}",
        value=shown,
        rule=f"{label} takes no such argument; it takes {listed(valid)}",
        remedy=f"set {prefix}{near}={shown}" if near else f"type ~{prefix}{name}",
    )
