"""Writes the blobs of a state into one data file, checksummed and aligned.

Must never decide whether what it wrote becomes a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import xxhash

from checkpoints.errors import StorageError
from checkpoints.layout import ALIGNMENT, CHUNK_BYTES, Blob
from checkpoints.local import Sink
from checkpoints.manifest import TensorRecord
from checkpoints.storage import Storage


def write_blobs(
    storage: Storage, name: str, blobs: Sequence[Blob]
) -> tuple[list[TensorRecord], dict[str, int]]:
    """Returns a record for each blob and the files' sizes, once all is durable.

    Args:
        storage: The step's folder.
        name: The data file to write; none is written when there are no blobs.
        blobs: What to write, in this order.
    """
    if not blobs:
        return [], {}
    records, end = [], 0
    with storage.open_write(name) as sink:
        for blob in blobs:
            gap = -end % ALIGNMENT
            sink.write(bytes(gap))
            records.append(_write_blob(sink, name, blob, end + gap))
            end = records[-1].offset + records[-1].size
    size = storage.size(name)
    if size != end:
        raise StorageError(
            f"{storage.url}/{name}: {size} bytes after writing {end}: the storage must "
            "keep all of them; check its quota and its health"
        )
    return records, {name: end}


def _write_blob(sink: Sink, name: str, blob: Blob, offset: int) -> TensorRecord:
    data = blob.to_bytes()
    checksums = []
    for chunk in chunks(data):
        checksums.append(xxhash.xxh3_128_hexdigest(chunk))
        sink.write(chunk)
    return TensorRecord(
        path=blob.path,
        dtype=blob.dtype,
        shape=blob.shape,
        file=name,
        offset=offset,
        size=len(data),
        checksums=tuple(checksums),
    )


def chunks(data: memoryview) -> Iterator[memoryview]:
    """Yields the parts of some bytes that have a checksum each."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
