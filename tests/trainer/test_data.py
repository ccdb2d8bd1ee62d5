"""The sample order is a function of (seed, position), whoever reads and from where."""

from __future__ import annotations

import random
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from trainer.config import LoaderConfig
from trainer.data import BatchReader, Fetched, fingerprint, split_batch
from trainer.sample_order import SampleOrder
from trainer.task import MapDataset


class Noisy:
    """Every sample draws from the three global generators."""

    def __init__(self, size: int = 50) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> tuple[int, float]:
        drawn = random.random() + np.random.rand() + torch.rand(()).item()
        return index, drawn


class Batched(Noisy):
    def __getitems__(self, indices: list[int]) -> list[tuple[int, float]]:
        return [(index, float(index)) for index in indices]


def read(
    data: MapDataset,
    num_steps: int,
    *,
    first_step: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    micro_size: int | None = 4,
) -> list[list[tuple[int, float]]]:
    """Returns the samples of each step over all ranks, in global order."""
    steps: list[list[tuple[int, float]]] = [[] for _ in range(num_steps)]
    for rank in range(world_size):
        share = split_batch(12, micro_size, rank, world_size)
        reader = BatchReader(list, 7, LoaderConfig(num_workers=num_workers))
        batches = reader.train(data, share, global_size=12, first_step=first_step)
        for step in range(num_steps):
            for fetched in islice(batches, len(share)):
                steps[step] += fetched.batch
    return steps


@pytest.mark.parametrize("num_samples", [1, 2, 3, 7, 64, 1797, 40_000])
def test_every_epoch_holds_every_sample_once(num_samples: int) -> None:
    order = SampleOrder(num_samples, seed=3)
    for epoch in (0, 1, 5):
        runs = list(order.locate(epoch * num_samples, (epoch + 1) * num_samples))
        assert {run[0] for run in runs} == {epoch}
        indices = [index for _, run in runs for index in run]
        assert sorted(indices) == list(range(num_samples))


def test_epochs_and_seeds_have_different_orders() -> None:
    def first_epoch(seed: int, epoch: int) -> list[int]:
        runs = SampleOrder(100, seed).locate(epoch * 100, epoch * 100 + 100)
        return [index for _, run in runs for index in run]

    orders = [first_epoch(0, 0), first_epoch(0, 1), first_epoch(1, 0)]
    assert len({tuple(order) for order in orders}) == 3


def test_positions_are_uniform_over_the_samples() -> None:
    # Chi-square over 8 samples at one position: 7 degrees of freedom, p = 0.001.
    counts = np.zeros(8)
    for seed in range(2000):
        [(_, [index])] = SampleOrder(8, seed).locate(3, 4)
        counts[index] += 1
    assert ((counts - 250) ** 2 / 250).sum() < 24.3


def test_neighbours_are_spread_out() -> None:
    # The mean distance of two independent uniform samples is a third of the range.
    [(_, run)] = SampleOrder(10_000, seed=0).locate(0, 10_000)
    assert 0.32 < np.abs(np.diff(run)).mean() / 10_000 < 0.347


def test_a_range_may_cross_epochs() -> None:
    order = SampleOrder(5, seed=0)
    runs = list(order.locate(3, 12))
    assert [epoch for epoch, _ in runs] == [0, 1, 2]
    assert [len(run) for _, run in runs] == [2, 5, 2]


@pytest.mark.parametrize(("world_size", "micro_size"), [(1, 4), (2, 4), (3, 4), (3, 1)])
def test_order_and_randomness_do_not_depend_on_the_ranks(
    world_size: int, micro_size: int
) -> None:
    expected = read(Noisy(), 9)
    assert read(Noisy(), 9, world_size=world_size, micro_size=micro_size) == expected


def test_shares_without_a_micro_size_cover_the_batch_in_order() -> None:
    expected = read(Noisy(), 3)
    for world_size in (1, 2, 3, 5):
        assert read(Noisy(), 3, world_size=world_size, micro_size=None) == expected


def test_order_and_randomness_do_not_depend_on_loader_processes() -> None:
    assert read(Noisy(), 6, num_workers=2) == read(Noisy(), 6)


def test_reading_continues_anywhere() -> None:
    assert read(Noisy(), 4, first_step=5) == read(Noisy(), 9)[5:]


def test_randomness_differs_between_epochs() -> None:
    drawn: dict[int, set[float]] = {}
    for step in read(Noisy(12), 3):
        for index, value in step:
            drawn.setdefault(index, set()).add(value)
    assert all(len(values) == 3 for values in drawn.values())


def test_a_batched_read_is_used_when_there_is_one() -> None:
    [step] = read(Batched(), 1)
    assert all(value == index for index, value in step)


def test_micro_batches_have_the_same_cuts_at_any_world_size() -> None:
    whole = split_batch(20, 4, 0, 1)
    for world_size in (2, 3, 5):
        ranks = [split_batch(20, 4, rank, world_size) for rank in range(world_size)]
        assert [part for share in ranks for part in share] == whole


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_reads_every_sample_once(world_size: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        reader = BatchReader(list, 0, LoaderConfig())
        batches = reader.evaluation(
            Noisy(11), micro_size=4, rank=rank, world_size=world_size
        )
        seen += [index for fetched in batches for index in fetched.indices]
    assert seen == list(range(11))


def test_fingerprint_sees_another_size_content_and_class() -> None:
    class Values:
        def __init__(self, values: list[Any]) -> None:
            self._values = values

        def __len__(self) -> int:
            return len(self._values)

        def __getitem__(self, index: int) -> Any:
            return self._values[index]

    class Others(Values):
        pass

    base = [torch.zeros(2), torch.ones(2), torch.ones(2)]
    variants = [
        Values(base),
        Values([*base, torch.ones(2)]),
        Values([torch.full((2,), 5.0), *base[1:]]),
        Values([t.bfloat16() for t in base]),
        Values([{"x": t, "y": [1, "a"]} for t in base]),
        Others(base),
    ]
    marks = [fingerprint(data, 0) for data in variants]
    assert len(set(marks)) == len(variants)
    assert fingerprint(Values(list(base)), 0) == marks[0]


def test_fingerprint_of_a_data_set_of_its_own_is_used() -> None:
    class Named(Noisy):
        fingerprint = "corpus 12ab"

    assert fingerprint(Named(), 0) == "50 samples, corpus 12ab"


def test_a_collate_function_that_draws_is_reproduced_over_batched_reads() -> None:
    def draw(samples: list[Any]) -> list[float]:
        return [random.random() for _ in samples]

    def read_from(first_step: int) -> list[list[float]]:
        share = split_batch(12, 4, 0, 1)
        batches = BatchReader(draw, 7, LoaderConfig()).train(
            Batched(), share, global_size=12, first_step=first_step
        )
        return [fetched.batch for fetched in islice(batches, 3)]

    expected = read_from(2)
    random.seed(0)
    assert read_from(2) == expected


def test_fetched_batches_carry_their_indices() -> None:
    reader = BatchReader(list, 7, LoaderConfig())
    share = split_batch(12, 4, 0, 1)
    batches = reader.train(Noisy(), share, global_size=12, first_step=0)
    fetched: Fetched = next(batches)
    assert fetched.indices == [index for index, _ in fetched.batch]
