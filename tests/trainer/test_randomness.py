"""Seeds are functions of a purpose and integers, and far from each other."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import torch

from trainer.randomness import Purpose, derive_seed, mix, seed_generators


def test_mix_is_splitmix64() -> None:
    # The first outputs of the reference implementation with state 0 and 1234567:
    # https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
    assert mix(0) == 0xE220A8397B1DCDAF
    assert mix(1234567) == 6457827717110365317


def test_seeds_do_not_collide() -> None:
    keys = list(product(Purpose, range(4), range(40), range(40)))
    seeds = {derive_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 1 << 64 for seed in seeds)


def test_the_bits_of_neighbouring_seeds_are_independent() -> None:
    flips = [
        (derive_seed(Purpose.SAMPLE, 0, i) ^ derive_seed(Purpose.SAMPLE, 0, i + 1))
        for i in range(1000)
    ]
    mean = sum(flip.bit_count() for flip in flips) / len(flips)
    assert abs(mean - 32) < 0.5  # the standard deviation of the mean is 0.13


def test_a_seed_of_any_size_and_sign_is_taken() -> None:
    for seed in (-1, 0, 1 << 64, (1 << 64) - 1):
        seed_generators(derive_seed(Purpose.MODEL, seed))
    assert derive_seed(Purpose.MODEL, -1) == derive_seed(Purpose.MODEL, (1 << 64) - 1)


def draw() -> tuple[float, float, float]:
    return torch.rand(()).item(), float(np.random.rand()), random.random()


def test_all_generators_repeat_from_a_seed() -> None:
    seed = derive_seed(Purpose.MICRO_BATCH, 0, 3, 1)
    seed_generators(seed)
    first = draw()
    assert all(a != b for a, b in zip(first, draw(), strict=True))
    seed_generators(seed)
    assert draw() == first
    seed_generators(seed + 1)
    assert all(a != b for a, b in zip(first, draw(), strict=True))


def test_torch_draws_as_after_its_own_manual_seed() -> None:
    torch.manual_seed(12345)
    expected = torch.rand(8)
    seed_generators(12345)
    assert torch.equal(torch.rand(8), expected)
