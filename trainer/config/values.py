"""Sets the words' values on what Hydra composed, one by one: no fault hides another.

Hydra itself stops at the first faulty word; this file follows its rules and goes on.
It differs in one thing: below an *open* node (a dictionary, a target of the user's
own) a new key needs no ``+``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import (
    OmegaConfBaseException,
)

from trainer.config.expected import key_fault, type_fault
from trainer.config.nodes import hint_at, is_typed, node_at, walk
from trainer.config.redaction import redact_value
from trainer.config.words import typed_value
from trainer.errors import Fault


def set_values(config: DictConfig, values: Iterable[Override]) -> list[Fault]:
    """Sets every value on `config` and returns a fault for each that cannot be."""
    faults: list[Fault] = []
    for override in values:
        # A plain split: a dot inside brackets is no key that any of our nodes has.
        key = override.key_or_group.replace("[", ".").replace("]", "")
        text = typed_value(override)
        if override.is_delete():
            faults += _delete(config, key)
        else:
            plus = override.is_add() or override.is_force_add()
            faults += _set(config, key, override.value(), text, plus=plus)
    return faults


def _set(
    config: DictConfig, key: str, value: Any, text: str, *, plus: bool
) -> Iterator[Fault]:
    """Sets one key; a dictionary is taken apart down to the open nodes."""
    if isinstance(value, dict) and value and is_typed(node_at(config, key)):
        for name, item in value.items():
            below = f"{key}.{name}"
            shown = str(redact_value(below, item))
            yield from _set(config, below, item, shown, plus=plus)
        return
    open_here = _is_open(config, key)
    if not open_here and not _exists(config, key, plus=plus):
        yield key_fault(config, key, text)
        return
    try:
        OmegaConf.update(config, key, value, merge=True, force_add=plus or open_here)
    except OmegaConfBaseException:
        yield type_fault(config, key, value, text)


def _delete(config: DictConfig, key: str) -> Iterator[Fault]:
    parent, _, name = key.rpartition(".")
    node = node_at(config, parent) if parent else config
    if not isinstance(node, DictConfig) or name not in node:
        yield key_fault(config, key, "~")
    elif is_typed(node):
        rule = "a key of the schema cannot be removed"
        remedy = f"set {key}=null where null is allowed"
        yield Fault(path=key, value="~", rule=rule, remedy=remedy)
    else:
        with open_dict(node):
            del node[name]


def _is_open(config: DictConfig, key: str) -> bool:
    """Says whether the deepest node that exists above `key` takes any key."""
    node, rest = walk(config, key)
    if isinstance(node, DictConfig):
        return not is_typed(node)
    existing = ".".join(key.split(".")[: -len(rest)])
    return bool(rest) and node is None and hint_at(config, existing) is Any


def _exists(config: DictConfig, key: str, *, plus: bool) -> bool:
    """Says whether `key` is in the schema; + also admits an argument of a target."""
    node, rest = walk(config, key)
    is_target = isinstance(node, DictConfig) and "_target_" in node
    return not rest or (plus and is_target and len(rest) == 1)
