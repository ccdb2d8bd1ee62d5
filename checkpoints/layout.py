"""A state tree to a JSON skeleton and raw tensor bytes, and back, bit for bit.

Owns what a state may hold. Must never open a file, and never unpickles: a file can
only become the values listed here.

JSON's null, booleans, strings, lists, finite numbers stand for themselves. An object
has one key, which says what it is: dict, ordered, counter, tuple, int, float, bytes,
tensor, array, scalar; the last three give an index into the list of blobs.
"""

from __future__ import annotations

import base64
import math
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from checkpoints.errors import CheckpointError, Corrupt

ALIGNMENT = 64  # bytes; what torch's readers and direct I/O into memory like
CHUNK_BYTES = 16 * 2**20  # what one checksum covers

_DEEPEST = 100  # levels; deeper means that something contains itself
_LONGEST_INT_BITS = 64  # longer ones become hexadecimal: decimal text has a limit
_ARRAY_KINDS = "biufcSUmM"  # no objects, which would need pickle
_MAPPINGS: dict[type, str] = {dict: "dict", OrderedDict: "ordered", Counter: "counter"}
_ALLOWED = (
    "a state may hold dicts with str or int keys, lists, tuples, tensors, numpy arrays "
    "and numbers, int, float, str, bool, None and bytes; convert it, or leave it out"
)


@dataclass(frozen=True, slots=True)
class Blob:
    """A tensor or array on its way to a file."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    value: torch.Tensor | npt.NDArray[Any]

    def to_bytes(self) -> memoryview:
        """Returns its bytes in row-major order, without a copy where possible."""
        value = self.value
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        return byte_view(value)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A state tree, ready to be written."""

    skeleton: object
    blobs: list[Blob]


def encode(state: object, path: str = "state") -> Encoded:
    """Returns the skeleton and the blobs of a state tree; copies no tensor.

    Raises:
        CheckpointError: Something in it cannot be saved; names its path.
    """
    blobs: list[Blob] = []
    return Encoded(_encode(state, path, 0, blobs), blobs)


def decode(skeleton: object, values: list[torch.Tensor | npt.NDArray[Any]]) -> object:
    """Returns the state tree of a skeleton whose blobs have been read.

    Raises:
        Corrupt: The skeleton breaks the rules of the format.
    """
    try:
        return _decode(skeleton, values)
    except (KeyError, TypeError, ValueError, IndexError, struct.error) as err:
        raise Corrupt(
            f"the state tree cannot be read: {type(err).__name__}: {err}: it must "
            "follow the format; restore another step"
        ) from err


def allocate(dtype: str, shape: tuple[int, ...]) -> torch.Tensor | npt.NDArray[Any]:
    """Returns an uninitialised tensor or array of a recorded type and shape.

    Raises:
        Corrupt: The type is not one that can be saved.
    """
    if dtype.startswith("numpy:"):
        with suppress(TypeError):
            numpy_dtype = np.dtype(dtype.removeprefix("numpy:"))
            if numpy_dtype.kind in _ARRAY_KINDS:
                return np.empty(shape, numpy_dtype)
    torch_dtype = getattr(torch, dtype, None)
    if isinstance(torch_dtype, torch.dtype):
        return torch.empty(shape, dtype=torch_dtype)
    raise Corrupt(
        f"dtype {dtype!r}: must be one that torch or numpy has here; "
        "restore another step, or with the release that wrote it"
    )


def byte_view(value: torch.Tensor | npt.NDArray[Any]) -> memoryview:
    """Returns the memory of a contiguous CPU tensor or array as bytes."""
    if isinstance(value, torch.Tensor):
        if value.numel() == 0:
            return memoryview(bytearray())
        # A contiguous tensor of one item may still claim any stride, which view minds.
        flat = value.as_strided((value.numel(),), (1,))
        return flat.view(torch.uint8).numpy().data
    if value.nbytes == 0:
        return memoryview(bytearray())
    return value.reshape(-1).view(np.uint8).data


def _encode(value: object, path: str, depth: int, blobs: list[Blob]) -> object:
    if depth > _DEEPEST:
        raise CheckpointError(
            f"{path[:80]}... is nested deeper than {_DEEPEST} levels: a state must not "
            "contain itself; flatten it"
        )
    encoder = _ENCODERS.get(type(value))
    if encoder is not None:
        return encoder(value, path, depth, blobs)
    if isinstance(value, np.generic):
        return {"scalar": _add_array(np.asarray(value), path, blobs)}
    raise _refused(value, path)


def _encode_mapping(value: Any, path: str, depth: int, blobs: list[Blob]) -> object:
    pairs = []
    for key, item in value.items():
        if type(key) not in {str, int}:
            raise CheckpointError(
                f"{path} has the key {key!r}, a {type(key).__name__}: {_ALLOWED}"
            )
        node = _encode(item, f"{path}[{key!r}]", depth + 1, blobs)
        pairs.append([_encode_int(key) if type(key) is int else key, node])
    kind = _MAPPINGS[type(value)]
    # torch.nn.Module.state_dict hangs the versions of its modules on the dict.
    metadata = getattr(value, "_metadata", None)
    if kind == "ordered" and metadata is not None:
        node = _encode(metadata, f"{path}._metadata", depth + 1, blobs)
        return {kind: pairs, "metadata": node}
    return {kind: pairs}


def _encode_items(value: Any, path: str, depth: int, blobs: list[Blob]) -> list[object]:
    return [
        _encode(item, f"{path}[{index}]", depth + 1, blobs)
        for index, item in enumerate(value)
    ]


def _encode_int(value: int) -> object:
    if value.bit_length() < _LONGEST_INT_BITS:
        return value
    return {"int": hex(value)}


def _encode_float(value: float) -> object:
    # repr of a finite float is exact; a NaN may carry bits that no text keeps.
    if math.isfinite(value):
        return value
    return {"float": struct.pack(">d", value).hex()}


def _add_tensor(value: torch.Tensor, path: str, blobs: list[Blob]) -> int:
    kind = None
    if value.layout is not torch.strided:
        kind = f"a tensor with layout {value.layout}"
    elif value.is_quantized:
        kind = "a quantized tensor"
    elif value.is_meta:
        kind = "a tensor without data on the meta device"
    if kind is not None:
        raise CheckpointError(f"{path} is {kind}: it must be dense; convert it")
    dtype = str(value.dtype).removeprefix("torch.")
    blobs.append(Blob(path, dtype, tuple(value.shape), value))
    return len(blobs) - 1


def _add_array(value: npt.NDArray[Any], path: str, blobs: list[Blob]) -> int:
    if value.dtype.kind not in _ARRAY_KINDS:
        raise CheckpointError(
            f"{path} is an array of {value.dtype}: its items must be numbers, texts or "
            "times; convert it"
        )
    array = np.array(value, order="C", copy=None)
    blobs.append(Blob(path, f"numpy:{value.dtype.str}", value.shape, array))
    return len(blobs) - 1


def _refused(value: object, path: str) -> CheckpointError:
    kind = type(value).__qualname__
    if isinstance(value, tuple | list | dict | str | int | float | torch.Tensor):
        base = next(b.__name__ for b in type(value).__mro__[1:] if b in _ENCODERS)
        kind = f"{kind}, a subclass of {base}"
    return CheckpointError(f"{path} is a {kind}: {_ALLOWED}")


_Encoder = Callable[[Any, str, int, list[Blob]], object]


def _itself(value: object, path: str, depth: int, blobs: list[Blob]) -> object:
    return value


_ENCODERS: dict[type, _Encoder] = {
    dict: _encode_mapping,
    OrderedDict: _encode_mapping,
    Counter: _encode_mapping,
    list: _encode_items,
    tuple: lambda *a: {"tuple": _encode_items(*a)},
    torch.Tensor: lambda v, p, d, b: {"tensor": _add_tensor(v, p, b)},
    torch.nn.Parameter: lambda v, p, d, b: {"tensor": _add_tensor(v, p, b)},
    np.ndarray: lambda v, p, d, b: {"array": _add_array(v, p, b)},
    int: lambda v, p, d, b: _encode_int(v),
    float: lambda v, p, d, b: _encode_float(v),
    bytes: lambda v, p, d, b: {"bytes": base64.b64encode(v).decode()},
    str: _itself,
    bool: _itself,
    type(None): _itself,
}


def _decode(node: Any, values: list[Any]) -> Any:
    if isinstance(node, list):
        return [_decode(item, values) for item in node]
    if not isinstance(node, dict):
        return node
    (kind,) = node.keys() - {"metadata"}
    content = node[kind]
    if kind in _MAPPINGS.values():
        decoded = _decode_mapping(kind, content, values)
        if "metadata" in node:
            decoded._metadata = _decode(node["metadata"], values)
        return decoded
    if kind == "tuple":
        return tuple(_decode(item, values) for item in content)
    return _LEAVES[kind](content, values)


def _decode_mapping(kind: str, pairs: Any, values: list[Any]) -> Any:
    mapping = next(cls for cls, name in _MAPPINGS.items() if name == kind)()
    for key, node in pairs:
        mapping[_decode(key, values)] = _decode(node, values)
    return mapping


_LEAVES: dict[str, Callable[[Any, list[Any]], Any]] = {
    "int": lambda content, values: int(content, 16),
    "float": lambda content, values: struct.unpack(">d", bytes.fromhex(content))[0],
    "bytes": lambda content, values: base64.b64decode(content, validate=True),
    "tensor": lambda content, values: values[content],
    "array": lambda content, values: values[content],
    "scalar": lambda content, values: values[content][()],
}
