"""What a committed step holds, to JSON and back; a manifest's bytes are the commit.

Owns the format and its version. Must never open a file or know a tensor.

The file is `{"body": {...}, "checksum": "<xxh3_128>"}`; the checksum is taken over the
body written with sorted keys and without spaces, so that any change of it shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xxhash

from checkpoints.errors import CheckpointError, Corrupt

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1

# Names come from a file that anyone may have changed: no path may leave the folder.
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_NON_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointInfo:
    """A committed checkpoint."""

    step: int  # optimizer steps done
    url: str  # its folder, without credentials
    size_bytes: int  # of its data files
    metrics: dict[str, float]  # as given to `save`
    created_at: float  # Unix seconds, by the clock of the process that wrote it


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorRecord:
    """Where the bytes of one tensor or array are, and how to read them."""

    path: str  # inside the state, for people
    dtype: str  # torch's name, or "numpy:" and numpy's
    shape: tuple[int, ...]
    file: str
    offset: int  # bytes
    size: int  # bytes
    checksums: tuple[str, ...]  # xxh3_128 of each chunk of CHUNK_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything about one committed step but the tensors' bytes."""

    attempt_id: str  # unique to the save that wrote it
    created_at: float  # Unix seconds
    step: int
    metrics: dict[str, float]
    skeleton: object  # the state tree as JSON; tensors are indices into `tensors`
    tensors: tuple[TensorRecord, ...]
    files: dict[str, int]  # data file to its size in bytes

    def info(self, url: str) -> CheckpointInfo:
        """Returns the summary that callers get, for a step folder at `url`."""
        return CheckpointInfo(
            step=self.step,
            url=url,
            size_bytes=sum(self.files.values()),
            metrics=dict(self.metrics),
            created_at=self.created_at,
        )

    def to_bytes(self) -> bytes:
        """Returns the content of `manifest.json`."""
        body = _canonical(
            {
                "format_version": FORMAT_VERSION,
                "attempt_id": self.attempt_id,
                "created_at": self.created_at,
                "step": self.step,
                "metrics": {name: _to_json(x) for name, x in self.metrics.items()},
                "state": self.skeleton,
                "tensors": [_tensor_to_json(record) for record in self.tensors],
                "files": self.files,
            }
        )
        return f'{{"body":{body},"checksum":"{_digest(body)}"}}\n'.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Returns the manifest in a file's content.

        Raises:
            Corrupt: The content is not what `to_bytes` wrote.
            CheckpointError: A newer release wrote it; it is not damaged.
        """
        body = _checked_body(data)
        version = body.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"format_version={version}: this release reads {FORMAT_VERSION}; "
                "use the release of perennial that wrote it"
            )
        try:
            return _manifest_from_json(body)
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise Corrupt(
                f"{MANIFEST_NAME}: {type(err).__name__}: {err}: fields must be those "
                "of the format; restore another step"
            ) from err


def _checked_body(data: bytes) -> dict[str, Any]:
    try:
        envelope = json.loads(data)
        body, checksum = envelope["body"], envelope["checksum"]
        matches = isinstance(body, dict) and checksum == _digest(_canonical(body))
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise Corrupt(
            f"{MANIFEST_NAME} ({len(data)} bytes) is no manifest: {err}: it must be "
            "whole JSON; restore another step"
        ) from err
    if not matches:
        raise Corrupt(
            f"{MANIFEST_NAME} ({len(data)} bytes): its checksum must match its body, "
            "but its bytes have changed; restore another step"
        )
    assert isinstance(body, dict)
    return body


def _manifest_from_json(body: Mapping[str, Any]) -> Manifest:
    files = {_file_name(name): int(size) for name, size in body["files"].items()}
    tensors = tuple(_tensor_from_json(record) for record in body["tensors"])
    for record in tensors:
        if not 0 <= record.offset <= record.offset + record.size <= files[record.file]:
            raise ValueError(f"{record.path} lies outside {record.file}")
    return Manifest(
        attempt_id=str(body["attempt_id"]),
        created_at=float(body["created_at"]),
        step=int(body["step"]),
        metrics={str(k): _from_json(v) for k, v in body["metrics"].items()},
        skeleton=body["state"],
        tensors=tensors,
        files=files,
    )


def _tensor_to_json(record: TensorRecord) -> dict[str, object]:
    return {
        "path": record.path,
        "dtype": record.dtype,
        "shape": list(record.shape),
        "file": record.file,
        "offset": record.offset,
        "size": record.size,
        "checksums": list(record.checksums),
    }


def _tensor_from_json(record: Mapping[str, Any]) -> TensorRecord:
    return TensorRecord(
        path=str(record["path"]),
        dtype=str(record["dtype"]),
        shape=tuple(int(length) for length in record["shape"]),
        file=_file_name(record["file"]),
        offset=int(record["offset"]),
        size=int(record["size"]),
        checksums=tuple(str(checksum) for checksum in record["checksums"]),
    )


def _file_name(name: str) -> str:
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no data file's name")
    return name


def _canonical(body: object) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(body: str) -> str:
    return xxhash.xxh3_128_hexdigest(body.encode())


def _to_json(value: float) -> float | str:
    # JSON has no word for these; repr of a finite float is exact.
    return value if abs(value) < float("inf") else repr(value)


def _from_json(value: float | str) -> float:
    return _NON_FINITE[value] if isinstance(value, str) else float(value)
