"""Writer and reader together, on files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import Corrupt, StorageError, Verify, open_storage
from checkpoints.layout import ALIGNMENT, CHUNK_BYTES, encode
from checkpoints.local import LocalStorage
from checkpoints.manifest import Manifest
from checkpoints.reader import read_state
from checkpoints.writer import write_blobs


def write(folder: Path, state: object) -> Manifest:
    encoded = encode(state)
    records, files = write_blobs(open_storage(folder), "data.bin", encoded.blobs)
    return Manifest(
        attempt_id="a",
        created_at=0.0,
        step=1,
        metrics={},
        skeleton=encoded.skeleton,
        tensors=tuple(records),
        files=files,
    )


def big_state() -> dict[str, torch.Tensor]:
    return {
        "small": torch.arange(3),
        "big": torch.arange(CHUNK_BYTES // 4 + 5),  # two chunks and a bit
        "empty": torch.empty(0),
        "last": torch.tensor(1.5, dtype=torch.bfloat16),
    }


def test_tensors_longer_than_chunks_and_windows_come_back(tmp_path: Path) -> None:
    state = big_state()
    manifest = write(tmp_path, state)
    assert [len(record.checksums) for record in manifest.tensors] == [1, 3, 0, 1]
    again: Any = read_state(open_storage(tmp_path), manifest, Verify.FULL)
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_every_tensor_begins_at_an_aligned_offset(tmp_path: Path) -> None:
    manifest = write(tmp_path, big_state())
    assert all(record.offset % ALIGNMENT == 0 for record in manifest.tensors)
    data = (tmp_path / "data.bin").read_bytes()
    record = manifest.tensors[0]
    assert (
        data[record.offset :][: record.size] == big_state()["small"].numpy().tobytes()
    )


@pytest.mark.parametrize("chunk", range(3))
def test_a_flipped_byte_is_found_in_every_chunk(tmp_path: Path, chunk: int) -> None:
    manifest = write(tmp_path, big_state())
    position = manifest.tensors[1].offset + chunk * CHUNK_BYTES + 7
    with (tmp_path / "data.bin").open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(Corrupt, match=rf"state\['big'\].*chunk {chunk}"):
        read_state(open_storage(tmp_path), manifest, Verify.FULL)
    read_state(open_storage(tmp_path), manifest, Verify.SIZES)


def test_a_record_whose_size_is_not_its_shapes_is_corrupt(tmp_path: Path) -> None:
    from dataclasses import replace

    manifest = write(tmp_path, {"x": torch.ones(4)})
    record = replace(manifest.tensors[0], shape=(3,))
    with pytest.raises(Corrupt, match=r"16 bytes: float32 \[3\] takes 12"):
        read_state(
            open_storage(tmp_path), replace(manifest, tensors=(record,)), Verify.FULL
        )


def test_a_storage_that_drops_bytes_is_caught_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalStorage, "size", lambda self, path: 1)
    with pytest.raises(StorageError, match="1 bytes after writing 16"):
        write(tmp_path, {"x": torch.ones(4)})


def test_writing_does_not_copy_the_state_in_memory(tmp_path: Path) -> None:
    state = {"x": torch.zeros(16 * 2**20)}
    tracemalloc.start()
    write(tmp_path, state)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
