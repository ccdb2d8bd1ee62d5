"""Registers the typed schemas with Hydra, under a group of their own.

A shipped option takes its schema from ``schema/<group>/<option>``, so that the names
of schemas never appear among the options of a group. Must never hold values.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from trainer.config import schema

SCHEMA_GROUP = "schema"

TARGETS: dict[str, dict[str, type]] = {
    "task": {
        "digits": schema.DigitsTargetConfig,
        "stdlib_gpt": schema.ByteGptTargetConfig,
        "supervised": schema.SupervisedTargetConfig,
    },
    "optimizer": {
        "sgd": schema.SgdTargetConfig,
        "adam": schema.AdamTargetConfig,
        "adamw": schema.AdamWTargetConfig,
    },
    "strategy": {
        "single": schema.SingleTargetConfig,
        "ddp": schema.DdpTargetConfig,
    },
}


def register_schemas() -> None:
    """Makes the schemas known to Hydra; calling it again changes nothing."""
    store = ConfigStore.instance()
    store.store(group=SCHEMA_GROUP, name="train", node=schema.TrainConfig)
    for group, options in TARGETS.items():
        for name, node in options.items():
            store.store(group=f"{SCHEMA_GROUP}/{group}", name=name, node=node)
