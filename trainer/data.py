"""Which samples a step trains on, and reading them: a function of (seed, position).

Training data is one endless stream: position p is sample `p % n` of epoch `p // n`, in
that epoch's own order, and step s takes the positions from `s * global_size`. So the
number of samples seen is all there is to resume, at any number of workers, and every
sample is seen exactly once an epoch. Knows nothing of models, devices or checkpoints.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from trainer.config import LoaderConfig
from trainer.randomness import Purpose, derive_seed, mix, seed_generators
from trainer.task import Batch, MapDataset

_NUM_ROUNDS = 8
_BLOCK_SIZE = 16384  # positions permuted at once: a call of numpy costs more than they
_NUM_PROBES = 3


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
        keys = [
            np.uint64(mix(derive_seed(Purpose.ORDER, self._seed, epoch, i)))
            for i in range(_NUM_ROUNDS)
        ]
        values = self._encrypt(values, keys)
        while (outside := values >= self.num_samples).any():
            values[outside] = self._encrypt(values[outside], keys)
        return values

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
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Part of a global batch that a rank holds at once."""

    index: int  # among all micro-batches of the step, whichever rank has it
    start: int  # first sample, counted from the start of the global batch
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


def split_batch(
    global_size: int, micro_size: int | None, rank: int, world_size: int
) -> list[MicroBatch]:
    """Returns a rank's micro-batches of a global batch of `global_size` samples.

    With a `micro_size` the cuts, and so the randomness of each micro-batch, are the
    same at any world size; without one every rank's whole share is one micro-batch.
    """
    if micro_size is None:
        cuts = [global_size * i // world_size for i in range(world_size + 1)]
    else:
        cuts = [*range(0, global_size, micro_size), global_size]
    batches = [
        MicroBatch(i, start, stop)
        for i, (start, stop) in enumerate(pairwise(cuts))
        if stop > start
    ]
    first = len(batches) * rank // world_size
    last = len(batches) * (rank + 1) // world_size
    return batches[first:last]


class _Request(NamedTuple):
    """What one micro-batch reads: (epoch, sample index) pairs."""

    epochs: list[int]
    indices: list[int]


class Fetched(NamedTuple):
    """One micro-batch as read: its sample indices and what the task collated."""

    indices: list[int]
    batch: Batch


class _Reader:
    """Reads a request in whichever process the loader asks from."""

    def __init__(
        self,
        data: MapDataset,
        collate: Callable[[list[Any]], Batch],
        seed: int,
        purpose: Purpose,
    ) -> None:
        self._data = data
        self._collate = collate
        self._seed = seed
        self._purpose = purpose

    def __getitems__(self, request: _Request) -> Fetched:
        read_many = getattr(self._data, "__getitems__", None)
        if read_many is not None:
            samples = read_many(request.indices)
        else:
            samples = [self._read(*key) for key in zip(*request, strict=True)]
        return Fetched(request.indices, self._collate(samples))

    def _read(self, epoch: int, index: int) -> Any:
        seed_generators(derive_seed(self._purpose, self._seed, epoch, index))
        return self._data[index]


def _as_read(fetched: Any) -> Any:
    return fetched


class _TrainRequests:
    """An endless iterable of a rank's requests, from a step on."""

    def __init__(
        self,
        order: SampleOrder,
        batches: list[MicroBatch],
        global_size: int,
        first_step: int,
    ) -> None:
        self._order = order
        self._batches = batches
        self._global_size = global_size
        self._first_step = first_step

    def __iter__(self) -> Iterator[_Request]:
        start = self._first_step * self._global_size
        while True:
            for batch in self._batches:
                yield self._request(start + batch.start, start + batch.stop)
            start += self._global_size

    def _request(self, start: int, stop: int) -> _Request:
        request = _Request([], [])
        for epoch, indices in self._order.locate(start, stop):
            request.epochs.extend([epoch] * len(indices))
            request.indices.extend(indices)
        return request


class BatchReader:
    """Reads a task's samples for one rank, through loader processes when asked to.

    Args:
        collate: the task's, list of samples -> batch.
        seed: the run's seed.
        config: loader processes, prefetching, pinning.
    """

    def __init__(
        self, collate: Callable[[list[Any]], Batch], seed: int, config: LoaderConfig
    ) -> None:
        self._collate = collate
        self._seed = seed
        self._config = config

    def train(
        self,
        data: MapDataset,
        batches: list[MicroBatch],
        *,
        global_size: int,
        first_step: int,
    ) -> Iterator[Fetched]:
        """Returns this rank's micro-batches from `first_step` on, without an end."""
        order = SampleOrder(len(data), self._seed)
        requests = _TrainRequests(order, batches, global_size, first_step)
        return self._read(data, requests, Purpose.SAMPLE)

    def evaluate(
        self, data: MapDataset, *, micro_size: int, rank: int, world_size: int
    ) -> Iterator[Fetched]:
        """Returns this rank's share of the whole set; no sample comes twice."""
        first = len(data) * rank // world_size
        last = len(data) * (rank + 1) // world_size
        requests = []
        for start in range(first, last, micro_size):
            indices = list(range(start, min(start + micro_size, last)))
            requests.append(_Request([0] * len(indices), indices))
        return self._read(data, requests, Purpose.EVALUATION)

    def _read(
        self,
        data: MapDataset,
        requests: _TrainRequests | list[_Request],
        purpose: Purpose,
    ) -> Iterator[Fetched]:
        reader = _Reader(data, self._collate, self._seed, purpose)
        config = self._config
        has_processes = config.num_workers > 0
        if not has_processes and not config.pin_memory:
            # A loader has nothing to add here but tens of microseconds a batch.
            return map(reader.__getitems__, requests)
        loader: DataLoader[Fetched] = DataLoader(
            reader,  # type: ignore[arg-type]  # torch's Dataset is a class, this is its protocol
            batch_sampler=requests,  # type: ignore[arg-type]  # requests are no lists
            collate_fn=_as_read,
            num_workers=config.num_workers,
            prefetch_factor=config.prefetch_factor if has_processes else None,
            pin_memory=config.pin_memory,
            # A generator of its own: the loader otherwise draws from the global one.
            generator=torch.Generator(),
        )
        return iter(loader)


def fingerprint(data: MapDataset, seed: int) -> str:
    """Returns a short text that changes when the data's size or identity changes.

    Uses the data set's own `fingerprint` when it has one, else hashes its class,
    length and a few samples, each read under a fixed seed.
    """
    own = getattr(data, "fingerprint", None)
    if isinstance(own, str):
        return f"{len(data)} samples, {own}"
    digest = hashlib.sha256(type(data).__qualname__.encode())
    for probe in range(_NUM_PROBES):
        index = (len(data) - 1) * probe // (_NUM_PROBES - 1)
        seed_generators(derive_seed(Purpose.SAMPLE, seed, 0, index))
        digest.update(_sample_bytes(data[index]))
    return f"{len(data)} samples, {type(data).__qualname__}, {digest.hexdigest()[:16]}"


def _sample_bytes(sample: Any) -> bytes:
    if isinstance(sample, torch.Tensor):
        raw = sample.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return f"{sample.dtype}{sample.shape}".encode() + raw.numpy().tobytes()
    if isinstance(sample, np.ndarray):
        return f"{sample.dtype}{sample.shape}".encode() + sample.tobytes()
    if isinstance(sample, dict):
        return b"".join(
            str(key).encode() + _sample_bytes(value) for key, value in sample.items()
        )
    if isinstance(sample, (list, tuple)):
        return b"".join(_sample_bytes(value) for value in sample)
    return pickle.dumps(sample)
