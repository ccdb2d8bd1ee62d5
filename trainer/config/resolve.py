"""Turns what was composed into plain dataclasses.

Owns what happens to values that are still missing, and to targets with more arguments
than their schema names. Nothing of OmegaConf is left in the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from omegaconf import DictConfig, OmegaConf, open_dict

from trainer.config.nodes import is_typed, names_of
from trainer.config.schema import TrainConfig
from trainer.errors import Fault

_TARGETS = ("task", "optimizer", "strategy")


def fill_missing(composed: DictConfig) -> Iterator[Fault]:
    """Sets every missing value to null and yields a fault for each."""
    for key in sorted(OmegaConf.missing_keys(composed)):
        yield Fault(
            path=key, value="???", rule="must be given", remedy=_missing_remedy(key)
        )
        OmegaConf.update(composed, key, None, force_add=True)


def to_dataclasses(composed: DictConfig) -> TrainConfig:
    """Returns the configuration with every interpolation resolved."""
    for name in _TARGETS:
        node = composed[name]
        schema = OmegaConf.get_type(node) if is_typed(node) else None
        if schema is not None and _has_extra_arguments(node, schema):
            plain = OmegaConf.to_container(node, resolve=True)
            with open_dict(composed):
                composed[name] = OmegaConf.create(plain)
    config = OmegaConf.to_object(composed)
    if not isinstance(config, TrainConfig):
        raise TypeError(f"train.yaml composed to {type(config).__name__}")
    return config


def _has_extra_arguments(node: DictConfig, schema: type) -> bool:
    return bool(set(names_of(node)) - {field.name for field in fields(schema)})


def _missing_remedy(key: str) -> str:
    if key in _TARGETS:
        return f"choose one with {key}=OPTION"
    if key in ("task.model", "task.train_data"):
        return f"set {key}._target_=my_pkg.MyClass"
    return f"set {key}={'my_pkg.MyClass' if key.endswith('_target_') else 'VALUE'}"
