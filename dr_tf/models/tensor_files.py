"""Read the tensors of published checkpoints (safetensors, PyTorch) without the packages that wrote them.

A file may be hostile. Nothing in it is run: PyTorch's files contain a pickle, of which only the few names that tensors
need are known here. Every length and place is compared with the size of the file before memory is reserved.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import os
import pickle
import zipfile
from typing import Any

import numpy as np

from dr_tf.console import UserError

_MAX_HEADER = 100_000_000  # bytes, as the format says
_SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16", "I64": "<i8", "I32": "<i4"}
_TORCH_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the tensors of a `.safetensors` file, or of a state dict that PyTorch saved.

    Args:
        path: The file.

    Returns:
        {name: values}; floating-point values as float32.

    Raises:
        UserError: The file is damaged, contains anything but tensors, or cannot be read.
    """
    read = _read_safetensors if os.fspath(path).endswith(".safetensors") else _read_torch
    try:
        return {name: _as_float32(values) for name, values in read(path).items()}
    # A hostile pickle can make the unpickler raise anything.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} cannot be read as a file of tensors: {reason}") from None


def _as_float32(values):
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _item_size(kind):
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def _array(data, kind):
    if kind == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, kind)


def _check(is_valid, message):
    if not is_valid:
        raise ValueError(message)


def _is_size(value):
    return type(value) is int and value >= 0


def _read_safetensors(path):
    """8 bytes: length of the header; the header in JSON, {name: dtype, shape, data_offsets}; the values."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        _check(size >= 8 and length <= min(_MAX_HEADER, size - 8), "its header is longer than the file")
        header = json.loads(file.read(length))
        _check(isinstance(header, dict), "its header is not a table")
        header.pop("__metadata__", None)
        return {name: _read_entry(file, entry, name, 8 + length, size) for name, entry in header.items()}


def _read_entry(file, entry, name, start, size):
    kind, shape = _SAFETENSORS_TYPES.get(entry["dtype"]), entry["shape"]
    _check(kind is not None, f"the type {entry['dtype']!r} of {name!r} is not supported")
    _check(all(map(_is_size, shape)), f"the shape of {name!r} is not valid")
    begin, end = entry["data_offsets"]
    inside = _is_size(begin) and _is_size(end) and begin <= end <= size - start
    _check(inside, f"the values of {name!r} lie outside the file")
    _check(0 < math.prod(shape) * _item_size(kind) == end - begin, f"the shape of {name!r} does not fit its values")
    file.seek(start + begin)
    return _array(file.read(end - begin), kind).reshape(shape)


def _read_torch(path):
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
        _check(len(members) == 1, "it has no data.pkl")
        with archive.open(_stored(archive, members[0].filename)) as file:
            state = _Unpickler(file, archive, members[0].filename.removesuffix("data.pkl")).load()
    tensors = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(values, np.ndarray) for name, values in state.items()
    )
    _check(tensors, "it is not a state dict of tensors")
    return state


def _stored(archive, name):
    """PyTorch does not compress; a compressed member may be a bomb."""
    info = archive.getinfo(name)
    _check(info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size, f"{name} is compressed")
    return info


@dataclasses.dataclass(frozen=True)
class _StorageType:
    kind: str


class _Unpickler(pickle.Unpickler):
    """Knows the names that a state dict needs, and gives this module's own objects for them."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str):
        super().__init__(file)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of a name; pickle calls it."""
        if module == "torch" and name in _TORCH_TYPES:
            return _StorageType(_TORCH_TYPES[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            # A new function each time: a pickle can set attributes of what it was given.
            return lambda *arguments: _strided(*arguments[:4])
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs")

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Read the values that belong to a tensor; pickle calls it."""
        tag, storage_type, key, _, _ = pid
        _check(tag == "storage" and isinstance(storage_type, _StorageType), "it has a reference that is no tensor")
        return _array(self._archive.read(_stored(self._archive, f"{self._folder}data/{key}")), storage_type.kind)


def _strided(values, offset, shape, strides):
    _check(all(map(_is_size, (offset, *shape, *strides))) and len(shape) == len(strides), "a tensor is not valid")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    _check(0 < math.prod(shape) <= len(values) and last < len(values), "a tensor lies outside its values")
    steps = [stride * values.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, steps).copy()
