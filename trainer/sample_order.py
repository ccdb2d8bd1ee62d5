"""The order of samples in every epoch: a keyed permutation of any position in O(1).

Knows integers only; nothing of batches, ranks or data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trainer.randomness import Purpose, derive_seed, mix

_NUM_ROUNDS = 8
_BLOCK_SIZE = 16384  # positions permuted at once: a call of numpy costs more than they

_Permutation = Callable[[NDArray[np.uint64]], NDArray[np.uint64]]


class SampleOrder:
    """The order of samples in every epoch, computed for any position in O(1).

    A Feistel network over the next power of four, walked until it lands inside the
    data set, is a permutation that needs no table: Luby and Rackoff (1988); Black and
    Rogaway, "Ciphers with arbitrary finite domains" (2002), the cycle-walking cipher.

    Args:
        num_samples: length of the data set, at least 1.
        seed: the run's seed.
    """

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self._seed = seed
        self._half_bits = max(1, ((num_samples - 1).bit_length() + 1) // 2)
        self._block_key = (-1, -1)
        self._block: list[int] = []

    def locate(self, start: int, stop: int) -> Iterator[tuple[int, list[int]]]:
        """Yields (epoch, sample indices) runs that cover `start` to `stop`."""
        while start < stop:
            epoch, offset = divmod(start, self.num_samples)
            number, first = divmod(offset, _BLOCK_SIZE)
            self._load_block(epoch, number)
            indices = self._block[first : first + stop - start]
            yield epoch, indices
            start += len(indices)

    def _load_block(self, epoch: int, number: int) -> None:
        if self._block_key == (epoch, number):
            return
        first = number * _BLOCK_SIZE
        last = min(first + _BLOCK_SIZE, self.num_samples)
        offsets = np.arange(first, last, dtype=np.uint64)
        self._block = self._permute(offsets, epoch).tolist()
        self._block_key = (epoch, number)

    def _permute(self, values: NDArray[np.uint64], epoch: int) -> NDArray[np.uint64]:
        encrypt = self._encryption(epoch)
        values = encrypt(values)
        while (outside := values >= self.num_samples).any():
            values[outside] = encrypt(values[outside])
        return values

    def _encryption(self, epoch: int) -> _Permutation:
        keys = [
            np.uint64(mix(derive_seed(Purpose.ORDER, self._seed, epoch, i)))
            for i in range(_NUM_ROUNDS)
        ]
        size = 1 << (2 * self._half_bits)
        if size > _BLOCK_SIZE:
            return partial(self._encrypt, keys=keys)
        # The walks end sooner by looking up than by computing a few values at a time.
        table = self._encrypt(np.arange(size, dtype=np.uint64), keys)
        return table.__getitem__

    def _encrypt(
        self, values: NDArray[np.uint64], keys: list[np.uint64]
    ) -> NDArray[np.uint64]:
        bits = np.uint64(self._half_bits)
        mask = np.uint64((1 << self._half_bits) - 1)
        left, right = values >> bits, values & mask
        for key in keys:
            left, right = right, left ^ (_mix_array(right ^ key) & mask)
        return (left << bits) | right


def _mix_array(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 on an array; products wrap around, as they should."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
