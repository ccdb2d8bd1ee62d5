"""Means over samples are exact, however the samples fall into batches and ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch

from tests.distributed import run_distributed
from trainer.distributed import Distributed
from trainer.metrics import WeightedMeans

# A mean of each batch with its number of samples.
MANY = [({"loss": 1.0, "accuracy": 0.5}, 4), ({"loss": 2.0, "accuracy": 1.0}, 3)]
ONE = [({"loss": 4.0, "accuracy": 0.0}, 1)]
UNEVEN = {"loss": (1.0 * 4 + 2.0 * 3 + 4.0) / 8, "accuracy": (0.5 * 4 + 3.0) / 8}

Share = list[tuple[dict[str, float], int]]


def run_means(shares: list[list[Share]]) -> list[dict[str, float]]:
    """Returns the means over the ranks' shares, with and without names."""
    distributed = Distributed(use_gpu=False)
    found = []
    for share in shares:
        for names in (None, ["accuracy", "loss"]):
            means = WeightedMeans()
            for values, count in share[distributed.rank]:
                means.add({k: torch.tensor(v) for k, v in values.items()}, count)
            found.append(means.compute(distributed, names))
    found.append(WeightedMeans().compute(distributed))
    distributed.close()
    return found


def test_means_over_ranks_count_every_sample_once() -> None:
    # In the second share rank 0 has no samples: it learns the names from the other.
    shares = [[MANY, ONE], [[], ONE]]
    for found in run_distributed(run_means, 2, shares):
        uneven, named, alone, alone_named, nothing = found
        assert uneven == named == UNEVEN
        assert alone == alone_named == ONE[0][0]
        assert list(alone) == ["loss", "accuracy"]
        assert list(named) == ["accuracy", "loss"]
        assert nothing == {}


def compute(
    *batches: tuple[Mapping[str, torch.Tensor | float], int],
) -> dict[str, float]:
    means = WeightedMeans()
    for values, count in batches:
        means.add(values, count)
    return means.compute(Distributed(use_gpu=False))


def test_means_of_uneven_batches_are_weighted() -> None:
    assert compute(({"x": 1.0}, 3), ({"x": 5.0}, 1)) == {"x": 2.0}


def test_a_python_number_keeps_its_precision() -> None:
    assert compute(({"x": 1 / 3}, 3), ({"x": 1 / 3}, 4)) == {"x": 1 / 3}


def test_sums_are_in_double_precision() -> None:
    # In float32, 2 ** 24 + 1 is 2 ** 24: the small values would vanish.
    large, one = torch.tensor(2.0**24), torch.tensor(1.0)
    found = compute(({"x": large}, 1), *[({"x": one}, 1)] * 3)
    assert found == {"x": (2**24 + 3) / 4}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64])
def test_any_dtype_and_a_tensor_of_one_element_are_taken(dtype: torch.dtype) -> None:
    values = [torch.tensor([2], dtype=dtype), torch.tensor(4, dtype=dtype)]
    assert compute(*[({"x": value}, 1) for value in values]) == {"x": 3.0}


def test_a_value_with_a_gradient_is_no_longer_tied_to_its_graph() -> None:
    weight = torch.ones((), requires_grad=True)
    assert compute(({"x": weight * 2}, 1)) == {"x": 2.0}


def test_a_nan_shows() -> None:
    assert math.isnan(compute(({"x": 1.0}, 3), ({"x": math.nan}, 1))["x"])


@pytest.mark.parametrize("other", [{"y": 1.0}, {}, {"x": 1.0, "y": 1.0}])
def test_batches_with_other_names_are_refused(other: dict[str, float]) -> None:
    means = WeightedMeans()
    means.add({"x": 1.0}, 1)
    with pytest.raises(ValueError, match=r"before \['x'\]: every batch must have"):
        means.add(other, 1)
