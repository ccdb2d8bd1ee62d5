"""Activation checkpointing: modules that run their forward pass again in backward."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from trainer.config.naming import nearest
from trainer.errors import ConfigError, Fault


def apply_activation_checkpointing(
    model: nn.Module, class_names: Sequence[str]
) -> None:
    """Makes every module of the named classes keep no activations, in place.

    Names and parameters of the model stay as they are.

    Raises:
        ConfigError: no module of the model has such a class.
    """
    for name in class_names:
        modules = [m for m in model.modules() if type(m).__name__ == name]
        if not modules:
            known = sorted({type(m).__name__ for m in model.modules()})
            raise ConfigError([_unknown_class(name, known)])
        for module in modules:
            forward = partial(checkpoint, module.forward, use_reentrant=False)
            module.forward = forward


def _unknown_class(name: str, known: list[str]) -> Fault:
    return Fault(
        path="activation_checkpointing",
        value=[name],
        rule=f"the model has no module of this class; it has {', '.join(known)}",
        remedy=f"activation_checkpointing=[{nearest(name, known) or known[0]}]",
    )
