"""Words the faults of single values: an unknown key, a value of a wrong type.

Says what the schema expects at a path and which override to type instead.
"""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from omegaconf import DictConfig, OmegaConf

from trainer.config.naming import listed, nearest
from trainer.config.nodes import hint_at, names_of, node_at, paths_ending_in, walk
from trainer.config.store import TARGETS
from trainer.errors import Fault

_NAMES: dict[object, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    dict: "a dictionary",
    list: "a list",
}
_EXAMPLES: dict[object, str] = {
    int: "1",
    float: "0.1",
    bool: "true",
    str: "text",
    list: "[a,b]",
}


def key_fault(config: DictConfig, key: str, text: str) -> Fault:
    """Returns the fault of a word whose key the schema does not have.

    Args:
        config: what is composed so far.
        key: the dotted path as typed.
        text: the value as typed; "~" for a word that removes the key.
    """
    node, rest = walk(config, key)
    parent = ".".join(key.split(".")[: -len(rest)])
    if not isinstance(node, DictConfig):
        rule = f"{parent} is a single value and holds no keys"
        return Fault(path=key, value=text, rule=rule, remedy=f"set {parent}={text}")
    valid = [name for name in names_of(node) if name not in ("_target_", "overrides")]
    place = parent or "the root"
    rule = f"there is no such key; the keys of {place} are {listed(valid)}"
    return Fault(
        path=key,
        value=text,
        rule=rule,
        remedy=_instead_of(config, parent, rest, text),
    )


def type_fault(config: DictConfig, key: str, value: object, text: str) -> Fault:
    """Returns the fault of a word whose value has a type that the schema refuses."""
    hint = hint_at(config, key)
    node = node_at(config, key)
    if isinstance(node, DictConfig) and is_dataclass(OmegaConf.get_type(node)):
        names = [f"{key}.{name}" for name in names_of(node) if name != "_target_"]
        rule = f"is a group of keys: {listed(names)}"
        return Fault(path=key, value=text, rule=rule, remedy=f"set {names[0]}={text}")
    return Fault(
        path=key,
        value=text,
        rule=f"must be {_described(hint)}",
        remedy=f"set {key}={_example(hint, value, node)}",
    )


def _instead_of(config: DictConfig, parent: str, rest: list[str], text: str) -> str:
    node = node_at(config, parent) if parent else config
    prefix = f"{parent}." if parent else ""
    equals = "" if text == "~" else f"={text}"
    verb = "type ~" if text == "~" else "set "
    near = nearest(rest[0], names_of(node))
    elsewhere = list(paths_ending_in(config, rest[-1]))
    if near is not None and near not in ("overrides", "_target_"):
        return f"{verb}{'.'.join([prefix + near, *rest[1:]])}{equals}"
    if elsewhere:
        return f"{verb}{elsewhere[0]}{equals}"
    for option, schema in TARGETS.get(parent, {}).items():
        if rest[0] in {field.name for field in fields(schema)}:
            return f"type {parent}={option}, which has it"
    target = node_at(node, "_target_")
    if isinstance(target, str) and len(rest) == 1 and text != "~":
        return f"type +{prefix}{rest[0]}{equals} to pass it to {target}"
    return "leave the word out"


def _described(hint: Any) -> str:
    """Says in words what an annotation admits."""
    members = _members(hint)
    if type(None) in members:
        inner = next(member for member in members if member is not type(None))
        return f"{_described(inner)} or null"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {listed(member.name for member in hint)}"
    origin = typing.get_origin(hint)
    if origin is tuple:
        return f"a list of {len(typing.get_args(hint))} numbers"
    if origin is list:
        return "a list of strings"
    return _NAMES.get(origin or hint, "a value that the schema admits")


def _example(hint: Any, value: object, current: object) -> str:
    """Gives a value to type: what was meant if that is clear, else what stands now."""
    members = [member for member in _members(hint) if member is not type(None)]
    inner = members[0] if members else hint
    if isinstance(inner, type) and issubclass(inner, Enum):
        names = [member.name for member in inner]
        return nearest(str(value), names) or names[0]
    if inner is int and isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(current, bool):
        return str(current).lower()
    if current is not None and OmegaConf.is_config(current):
        return str(OmegaConf.to_container(current)).replace(" ", "")
    if current is not None:
        return str(current)
    return _EXAMPLES.get(typing.get_origin(inner) or inner, "VALUE")


def _members(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint) if is_union else ()
