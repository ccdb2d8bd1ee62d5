from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from checkpoints import CheckpointError, Corrupt
from checkpoints.manifest import Manifest, TensorRecord, _canonical, _digest

RECORD = TensorRecord(
    path="state['x']",
    dtype="float32",
    shape=(2, 3),
    file="1-rank0000.bin",
    offset=64,
    size=24,
    checksums=("ab",),
)
MANIFEST = Manifest(
    attempt_id="1",
    created_at=1795369118.9016407,
    step=120,
    metrics={"eval/loss": 0.1, "bad": -math.inf},
    skeleton={"dict": [["x", {"tensor": 0}]]},
    tensors=(RECORD,),
    files={"1-rank0000.bin": 88},
)


def test_a_manifest_comes_back_equal() -> None:
    assert Manifest.from_bytes(MANIFEST.to_bytes()) == MANIFEST


def test_a_nan_metric_comes_back() -> None:
    manifest = replace(MANIFEST, metrics={"loss": math.nan})
    again = Manifest.from_bytes(manifest.to_bytes())
    assert math.isnan(again.metrics["loss"])


def test_the_file_is_strict_json() -> None:
    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    json.loads(MANIFEST.to_bytes(), parse_constant=refuse)


def test_info_adds_up_the_files() -> None:
    info = MANIFEST.info("s3://b/run/checkpoints/step-00000120")
    assert (info.step, info.size_bytes) == (120, 88)
    assert info.metrics == MANIFEST.metrics


def test_every_flipped_bit_is_found_or_changes_nothing() -> None:
    data = MANIFEST.to_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        try:
            again = Manifest.from_bytes(bytes(changed))
        except Corrupt:
            continue
        assert again == MANIFEST, f"byte {position}"


def test_every_cut_is_found() -> None:
    data = MANIFEST.to_bytes().rstrip()
    for length in range(len(data)):
        with pytest.raises(Corrupt):
            Manifest.from_bytes(data[:length])


def with_body(**changes: object) -> bytes:
    body = json.loads(MANIFEST.to_bytes())["body"] | changes
    text = _canonical(body)
    return json.dumps({"body": body, "checksum": _digest(text)}).encode()


def test_a_newer_format_is_not_called_damaged() -> None:
    with pytest.raises(CheckpointError, match="format_version=2") as caught:
        Manifest.from_bytes(with_body(format_version=2))
    assert type(caught.value) is CheckpointError


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../../etc/passwd": 88}},
        {"files": {"a/b": 88}},
        {"files": {}},
        {"files": {"1-rank0000.bin": 87}},
        {"tensors": [{}]},
        {"step": "many"},
    ],
)
def test_fields_that_break_the_format_are_corrupt(changes: dict[str, object]) -> None:
    with pytest.raises(Corrupt):
        Manifest.from_bytes(with_body(**changes))
