"""Reads a committed step's state back and proves that it is the one written.

Must never unpickle, and never touch the caller's objects.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
import xxhash

from checkpoints.choices import Verify
from checkpoints.errors import Corrupt, Incomplete, NotFound
from checkpoints.layout import allocate, byte_view, decode
from checkpoints.manifest import Manifest, TensorRecord
from checkpoints.storage import Storage
from checkpoints.writer import chunks

_WINDOW_BYTES = 32 * 2**20  # read at once, so that small tensors share a request


def read_state(storage: Storage, manifest: Manifest, verify: Verify) -> object:
    """Returns the state tree of a step.

    Args:
        storage: The step's folder.
        manifest: What the step holds.
        verify: Whether checksums are compared too.

    Raises:
        Incomplete: A data file is missing or has another size.
        Corrupt: A checksum or a rule of the format does not hold.
    """
    for name, size in manifest.files.items():
        _check_size(storage, name, size)
    windows = {
        name: _Window(storage, name, size) for name, size in manifest.files.items()
    }
    values = [
        _read_value(windows[record.file], record, verify) for record in manifest.tensors
    ]
    return decode(manifest.skeleton, values)


def _check_size(storage: Storage, name: str, expected: int) -> None:
    try:
        size = storage.size(name)
    except NotFound as err:
        raise Incomplete(
            f"{name} is missing: a committed step needs all of its files; "
            "restore another step"
        ) from err
    if size != expected:
        raise Incomplete(
            f"{name} has {size} bytes: {expected} were written; restore another step"
        )


def _read_value(
    window: _Window, record: TensorRecord, verify: Verify
) -> torch.Tensor | npt.NDArray[Any]:
    value = allocate(record.dtype, record.shape)
    target = byte_view(value)
    _check_record(record, len(target))
    position = record.offset
    for index, chunk in enumerate(chunks(target)):
        data = window.read(position, len(chunk))
        if verify is Verify.FULL:
            _check_sum(record, data, index)
        chunk[:] = data
        position += len(chunk)
    return value


def _check_record(record: TensorRecord, size: int) -> None:
    if size != record.size:
        raise Corrupt(
            f"{record.path} is recorded with {record.size} bytes: {record.dtype} "
            f"{list(record.shape)} takes {size}; restore another step"
        )


def _check_sum(record: TensorRecord, data: memoryview, index: int) -> None:
    expected = record.checksums
    if index >= len(expected) or xxhash.xxh3_128_hexdigest(data) != expected[index]:
        raise Corrupt(
            f"{record.path} in {record.file}: the bytes of chunk {index} must have "
            "their checksum, but have changed; restore another step"
        )


class _Window:
    # The part of a file that was read last. Tensors are read in the order in which
    # they lie in it, so every byte is read once.
    def __init__(self, storage: Storage, name: str, file_size: int) -> None:
        self._storage = storage
        self._name = name
        self._file_size = file_size
        self._start = 0
        self._data = b""

    def read(self, start: int, size: int) -> memoryview:
        end = start + size
        if start < self._start or end > self._start + len(self._data):
            wanted = min(max(size, _WINDOW_BYTES), self._file_size - start)
            try:
                self._data = self._storage.read_range(self._name, start, wanted)
            except NotFound as err:
                raise Incomplete(f"{self._name} vanished while it was read") from err
            self._start = start
        found = memoryview(self._data)[start - self._start : end - self._start]
        if len(found) != size:
            raise Incomplete(
                f"{self._name} ends at byte {start + len(found)}: {end} are needed; "
                "restore another step"
            )
        return found
