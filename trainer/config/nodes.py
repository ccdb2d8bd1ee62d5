"""Walks a composed configuration by dotted path, and asks the schema what stands there.

Reads only; knows OmegaConf and the dataclasses' annotations, no rule.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf


def walk(config: DictConfig, key: str) -> tuple[Any, list[str]]:
    """Returns the deepest node along `key` that exists, and the names that remain."""
    node: Any = config
    names = key.split(".")
    for index, name in enumerate(names):
        if not isinstance(node, DictConfig) or name not in names_of(node):
            return node, names[index:]
        unset = OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(
            node, name
        )
        node = None if unset else node[name]
    return node, []


def node_at(config: DictConfig, key: str) -> Any:
    """Returns what stands at `key`; None also when nothing does."""
    node, rest = walk(config, key)
    return None if rest else node


def names_of(node: DictConfig) -> list[str]:
    """Returns the keys of a node in the order of the schema."""
    return [str(name) for name in node]


def is_typed(node: Any) -> bool:
    """Says whether a schema fixes the keys of this node."""
    return isinstance(node, DictConfig) and OmegaConf.get_type(node) is not dict


def hint_at(config: DictConfig, key: str) -> Any:
    """Returns the annotation that the schema gives to `key`; Any without one."""
    hint: Any = OmegaConf.get_type(config)
    node: Any = config
    for name in key.split("."):
        schema = OmegaConf.get_type(node) if is_typed(node) else None
        if schema is not None and is_dataclass(schema):
            hint = typing.get_type_hints(schema).get(name, Any)
        elif typing.get_origin(hint) is dict:
            hint = typing.get_args(hint)[1]
        else:
            hint = Any
        node = node_at(node, name) if isinstance(node, DictConfig) else None
    return hint


def paths_ending_in(config: DictConfig, name: str, prefix: str = "") -> Iterator[str]:
    """Yields the dotted path of every key below `config` that is called `name`."""
    for key in names_of(config):
        if key == name:
            yield prefix + key
        child = node_at(config, key)
        if isinstance(child, DictConfig):
            yield from paths_ending_in(child, name, f"{prefix}{key}.")
