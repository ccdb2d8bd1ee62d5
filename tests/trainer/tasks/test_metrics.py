"""Metrics: right values, and no silent broadcasting."""

from __future__ import annotations

import pytest
import torch

from trainer.tasks.metrics import accuracy, mean_absolute_error


def test_accuracy_takes_classes_in_the_last_dimension() -> None:
    output_BK = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])

    assert accuracy(output_BK, torch.tensor([1, 0, 0, 1])).item() == 0.5


def test_accuracy_takes_classes_in_the_second_dimension_too() -> None:
    classes = torch.tensor([[0, 2, 1], [1, 1, 0]])
    output_BTK = torch.nn.functional.one_hot(classes, 5).float()

    assert accuracy(output_BTK, classes) == 1.0
    assert accuracy(output_BTK.transpose(1, 2), classes) == 1.0


def test_accuracy_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"output of shape \(4, 1\) and target"):
        accuracy(torch.zeros(4, 1), torch.zeros(4, 1))


def test_mean_absolute_error_is_the_mean_over_all_elements() -> None:
    error = mean_absolute_error(torch.tensor([[1, 2], [3, 4]]), torch.ones(2, 2).int())

    assert error.item() == 1.5


def test_mean_absolute_error_does_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"\(4, 1\) .* \(4,\): must be equal"):
        mean_absolute_error(torch.zeros(4, 1), torch.zeros(4))


def test_a_whole_model_output_is_refused_with_the_key_to_set() -> None:
    with pytest.raises(TypeError, match=r"the output is a dict: .*task.output_key"):
        accuracy({"logits": torch.zeros(4, 2)}, torch.zeros(4))  # type: ignore[arg-type]  # what a configuration can do
