from __future__ import annotations

import json
import math
import struct
import types
from collections import Counter, OrderedDict, defaultdict, namedtuple
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import CheckpointError, Corrupt
from checkpoints.layout import Blob, allocate, byte_view, decode, encode

DTYPES = sorted(
    {
        value
        for value in vars(torch).values()
        if isinstance(value, torch.dtype) and "q" not in str(value)
    },
    key=str,
)

Point = namedtuple("Point", "x y")


class Colour(IntEnum):
    RED = 1


def read_back(blob: Blob) -> Any:
    value = allocate(blob.dtype, blob.shape)
    target = byte_view(value)
    target[:] = bytes(blob.to_bytes())
    return value


def round_trip(state: object) -> Any:
    encoded = encode(state)
    skeleton = json.loads(json.dumps(encoded.skeleton, allow_nan=False))
    return decode(skeleton, [read_back(blob) for blob in encoded.blobs])


def bits(value: float) -> bytes:
    return struct.pack(">d", value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**63,
        "",
        "text \u2603 \ud800 \x00",
        b"",
        b"\x00\xff",
        [],
        (),
        {},
        {"a": {1: [(), ({},)]}, 0: "int key", "0": "str key"},
        (1, (2, [3, {"b": (None,)}])),
        OrderedDict(z=1, a=2),
        Counter({3: 2, 1: 5}),
        {"dict": 1, "tensor": {"tuple": 2}},
    ],
)
def test_plain_values_come_back_equal_and_of_the_same_type(value: object) -> None:
    again = round_trip(value)
    assert again == value
    assert repr(again) == repr(value)


def test_an_int_longer_than_decimal_text_allows_comes_back() -> None:
    assert round_trip(-(2**20000)) == -(2**20000)


@pytest.mark.parametrize(
    "value",
    [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan],
)
def test_floats_keep_every_bit(value: float) -> None:
    assert bits(round_trip([value])[0]) == bits(value)


def test_a_nan_keeps_its_payload() -> None:
    payload = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]
    assert bits(round_trip(payload)) == bytes.fromhex("fff8000000000123")


def test_the_order_of_keys_is_kept() -> None:
    state = {"z": 1, "a": 2, 10: 3, 2: 4}
    assert list(round_trip(state)) == ["z", "a", 10, 2]


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5, 3)], ids=str)
def test_tensors_of_every_dtype_keep_every_byte(shape: tuple[int, ...]) -> None:
    assert torch.bfloat16 in DTYPES
    for dtype in DTYPES:
        num_bytes = math.prod(shape) * dtype.itemsize
        raw = torch.randint(0, 2, (num_bytes,), dtype=torch.uint8)
        value = allocate(str(dtype).removeprefix("torch."), shape)
        byte_view(value)[:] = raw.numpy().data
        again = round_trip({"x": value})["x"]
        assert (again.dtype, again.shape) == (dtype, shape)
        assert bytes(byte_view(again)) == raw.numpy().tobytes(), dtype


def test_bfloat16_nan_and_infinity_keep_their_bits() -> None:
    value = torch.tensor([0x7FC1, 0xFF80, 0x8000, 1], dtype=torch.uint16)
    again = round_trip(value.view(torch.bfloat16))
    assert torch.equal(again.view(torch.uint16), value)


def test_non_contiguous_conjugate_and_expanded_tensors_keep_their_values() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    values = {
        "transposed": base.T,
        "strided": base[:, ::2],
        "expanded": torch.tensor([7.0]).expand(5),
        "conjugate": torch.tensor([1 + 2j, 3 - 1j]).conj(),
        "negative": torch.tensor([1 + 2j]).conj().imag,
    }
    again = round_trip(values)
    for name, value in values.items():
        assert torch.equal(again[name], value), name


def test_tensors_that_share_storage_come_back_with_their_own_values() -> None:
    base = torch.arange(6.0)
    again = round_trip({"all": base, "part": base[2:4], "same": base})
    again["part"].zero_()
    assert torch.equal(again["all"], base)
    assert torch.equal(again["same"], base)


def test_parameters_come_back_as_tensors() -> None:
    value = torch.nn.Parameter(torch.ones(2))
    again = round_trip(value)
    assert type(again) is torch.Tensor
    assert torch.equal(again, value)


def test_a_modules_state_keeps_its_order_and_versions() -> None:
    state = torch.nn.BatchNorm1d(3).state_dict()
    again = round_trip(state)
    assert list(again) == list(state)
    assert again._metadata == state._metadata  # type: ignore[attr-defined]  # torch's


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.array(3.5),
        np.empty((0, 2), dtype=np.float16),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(10)[::-3],
        np.array(["ab", "c"]),
        np.array([""]),
        np.array([b"ab"]),
        np.array(["2026-11-22"], dtype="datetime64[D]"),
        np.array([True, False]),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}",
)
def test_numpy_arrays_come_back_equal(value: Any) -> None:
    again = round_trip({"x": value})["x"]
    assert type(again) is np.ndarray
    assert again.dtype == value.dtype
    assert again.shape == value.shape
    assert np.array_equal(again, value)


@pytest.mark.parametrize(
    "value",
    [np.float32(0.1), np.int64(-3), np.bool_(True), np.str_("a"), np.float64(2)],
)
def test_numpy_scalars_keep_their_type(value: Any) -> None:
    again = round_trip([value])[0]
    assert type(again) is type(value)
    assert again == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1, 2}, "set"),
        (object(), "object"),
        (print, "builtin_function_or_method"),
        (1j, "complex"),
        (bytearray(b"x"), "bytearray"),
        (types.SimpleNamespace(), "SimpleNamespace"),
        (torch.Size([1]), "Size, a subclass of tuple"),
        (Point(1, 2), "Point, a subclass of tuple"),
        (Colour.RED, "Colour, a subclass of int"),
        (defaultdict(list), "defaultdict, a subclass of dict"),
        (np.array([object()]), "array of object"),
        (np.zeros(1, dtype=[("a", "i4")]), "array of"),
        (torch.eye(2).to_sparse(), "layout torch.sparse_coo"),
        (torch.empty(2, device="meta"), "meta device"),
    ],
)
def test_anything_else_is_refused_with_its_path(value: object, kind: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        encode({"model": {"x": [0, value]}})
    assert str(caught.value).startswith("state['model']['x'][1] is a")
    assert kind in str(caught.value)


@pytest.mark.parametrize("key", [True, 1.0, None, (1,), Colour.RED])
def test_a_key_that_is_no_str_or_int_is_refused(key: object) -> None:
    with pytest.raises(CheckpointError, match=r"state\['a'\] has the key"):
        encode({"a": {key: 1}})


def test_a_state_that_contains_itself_is_refused() -> None:
    state: dict[str, object] = {}
    state["self"] = state
    with pytest.raises(CheckpointError, match="contain itself"):
        encode(state)


def test_encoding_copies_no_tensor() -> None:
    value = torch.zeros(4)
    [blob] = encode(value).blobs
    value += 1
    assert bytes(blob.to_bytes()) == bytes(byte_view(torch.ones(4)))


@pytest.mark.parametrize(
    "skeleton",
    [{"tensor": 5}, {"pickle": "x"}, {"float": "00"}, {"bytes": "!"}, {"int": "z"}, {}],
)
def test_a_skeleton_that_breaks_the_format_is_corrupt(skeleton: object) -> None:
    with pytest.raises(Corrupt):
        decode([skeleton], [])


@pytest.mark.parametrize("dtype", ["numpy:O", "numpy:nonsense", "nn", "float99"])
def test_a_dtype_that_cannot_be_saved_is_corrupt(dtype: str) -> None:
    with pytest.raises(Corrupt, match="dtype"):
        allocate(dtype, (1,))
