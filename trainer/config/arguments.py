"""Reads target nodes alike, whether typed dataclass or plain dictionary.

Knows the shape of a target node only: ``_target_`` and keyword arguments beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any


def argument(node: object, name: str) -> Any:
    """Returns one argument of a target node, None when it does not carry it."""
    if isinstance(node, dict):
        return node.get(name)
    return getattr(node, name, None)


def items_of(node: object) -> Iterator[tuple[str, Any]]:
    """Yields the names and values of a target node, `_target_` among them."""
    if isinstance(node, dict):
        yield from ((str(name), value) for name, value in node.items())
    elif is_dataclass(node):
        yield from ((field.name, getattr(node, field.name)) for field in fields(node))


def is_target(node: object) -> bool:
    """Says whether `node` names something to build."""
    return argument(node, "_target_") is not None


def has_target_of(node: object, schema: type) -> bool:
    """Says whether `node` names the target that a schema of ours is made for."""
    return is_target(node) and argument(node, "_target_") == argument(
        schema(), "_target_"
    )


def targets_below(node: object, path: str) -> Iterator[tuple[str, Any]]:
    """Yields every target node at and below `node` with its dotted path."""
    if is_target(node):
        yield path, node
    if isinstance(node, list | tuple):
        for index, item in enumerate(node):
            yield from targets_below(item, f"{path}[{index}]")
        return
    for name, value in items_of(node):
        yield from targets_below(value, f"{path}.{name}" if path else name)
