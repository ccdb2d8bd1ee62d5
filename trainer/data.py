"""Which samples a step trains on, and reading them: a function of (seed, position).

Training data is one endless stream: position p is sample `p % n` of epoch `p // n`, in
that epoch's own order, and step s takes the positions from `s * global_size`. So the
number of samples seen is all there is to resume, at any number of workers, and every
sample is seen exactly once an epoch. Knows nothing of models, devices or checkpoints.
"""

from __future__ import annotations

import hashlib
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from trainer.config import LoaderConfig
from trainer.randomness import Purpose, derive_seed, seed_generators
from trainer.sample_order import SampleOrder
from trainer.task import Batch, MapDataset, TrainTask

_NUM_PROBES = 3


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
            if self._collate is not TrainTask.collate:  # which draws nothing
                first = request.epochs[0], request.indices[0]
                seed_generators(derive_seed(self._purpose, self._seed, *first))
        else:
            samples = [self._read(*key) for key in zip(*request, strict=True)]
        return Fetched(request.indices, self._collate(samples))

    def _read(self, epoch: int, index: int) -> Any:
        seed_generators(derive_seed(self._purpose, self._seed, epoch, index))
        return self._data[index]


def _ignore_interrupts(_worker: int) -> None:
    """Leaves Ctrl-C, which a terminal sends to all processes, to the rank."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
        return iter(self._batches(data, requests, Purpose.SAMPLE))

    def evaluation(
        self, data: MapDataset, *, micro_size: int, rank: int, world_size: int
    ) -> Iterable[Fetched]:
        """Returns this rank's share of the whole set, to be read any number of times.

        The ranks' shares meet without an overlap: no sample comes twice.
        """
        first = len(data) * rank // world_size
        last = len(data) * (rank + 1) // world_size
        requests = []
        for start in range(first, last, micro_size):
            indices = list(range(start, min(start + micro_size, last)))
            requests.append(_Request([0] * len(indices), indices))
        return self._batches(data, requests, Purpose.EVALUATION)

    def _batches(
        self, data: MapDataset, requests: Iterable[_Request], purpose: Purpose
    ) -> Iterable[Fetched]:
        reader = _Reader(data, self._collate, self._seed, purpose)
        if self._config.num_workers == 0 and not self._config.pin_memory:
            # A loader has nothing to add here but tens of microseconds a batch.
            return _Inline(reader, requests)
        return _loader(reader, requests, self._config)


@dataclass(frozen=True, slots=True)
class _Inline:
    """Reads in this process, when asked."""

    reader: _Reader
    requests: Iterable[_Request]

    def __iter__(self) -> Iterator[Fetched]:
        return map(self.reader.__getitems__, self.requests)


def _loader(
    reader: _Reader, requests: Iterable[_Request], config: LoaderConfig
) -> DataLoader[Fetched]:
    processes: dict[str, Any] = {}
    if config.num_workers > 0:
        # A fork beside the threads of a process group was seen to hang, about once in
        # a thousand: a clean server, which has torch loaded already, forks instead.
        context = get_context(config.start_method.value)
        if isinstance(context, ForkServerContext):
            context.set_forkserver_preload([__name__])
        processes = {
            "multiprocessing_context": context,
            "prefetch_factor": config.prefetch_factor,
            "persistent_workers": True,
            "worker_init_fn": _ignore_interrupts,
        }
    return DataLoader(
        reader,  # type: ignore[arg-type]  # torch's Dataset is a class, this a protocol
        batch_sampler=requests,  # type: ignore[arg-type]  # requests are no lists
        collate_fn=_as_read,
        num_workers=config.num_workers,
        pin_memory=config.pin_memory,
        # A generator of its own: the loader otherwise draws from the global one.
        generator=torch.Generator(),
        **processes,
    )


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
