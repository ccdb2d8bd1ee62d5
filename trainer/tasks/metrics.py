"""Metrics that a configuration can name: mean of one batch from (output, target).

Owns plain functions on tensors only. To use one, name it as a target node with
`_partial_: true`, for example `_target_: trainer.tasks.metrics.accuracy`.

Shape suffixes: K classes; "..." any dimensions, at least the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Returns the share of targets whose class has the largest output, a scalar.

    Args:
        output: a score per class, the classes in the last dimension, or in the second
            one, as torch.nn.CrossEntropyLoss takes them.
        target: the class numbers; the shape of `output` without its classes.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: the shapes do not fit.
    """
    _check_tensors("accuracy", output, target)
    if output.ndim == target.ndim + 1:
        for dim in (-1, 1):
            predicted = output.argmax(dim)
            if predicted.shape == target.shape:
                return (predicted == target).double().mean()
    raise ValueError(
        f"accuracy: output of shape {tuple(output.shape)} and target of shape "
        f"{tuple(target.shape)}: the output must have one dimension more, the classes, "
        "last or second; use another metric, or task.output_key to pick the scores"
    )


def mean_absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """Returns the mean of |output - target| over all elements, a scalar.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: the shapes differ; they are not broadcast, because (B, 1) against
            (B,) would silently compare every sample with every other.
    """
    _check_tensors("mean_absolute_error", output, target)
    if output.shape != target.shape:
        raise ValueError(
            f"mean_absolute_error: output of shape {tuple(output.shape)} and target of "
            f"shape {tuple(target.shape)}: must be equal; reshape one in the model or "
            "in the data"
        )
    return (output - target).abs().float().mean()


def _check_tensors(metric: str, output: object, target: object) -> None:
    for name, value in (("output", output), ("target", target)):
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"{metric}: the {name} is a {type(value).__name__}: must be a tensor; "
                "set task.output_key (for example logits) or task.target_key to pick it"
            )
