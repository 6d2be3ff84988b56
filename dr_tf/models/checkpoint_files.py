"""Read published checkpoint files without PyTorch: safetensors, and the zip archives of PyTorch and TorchScript.

A pickle can call any function. The reader of archives therefore knows the few names that tensors need, all of which are
its own code, and refuses every other one.
"""

from __future__ import annotations

import collections
import io
import json
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from dr_tf.console import UserError

Tensors = dict[str, np.ndarray]

_BFLOAT16 = "bfloat16"  # NumPy has no such type; its values are the upper halves of float32
_SAFETENSORS_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": _BFLOAT16, "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_STORAGE_TYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": _BFLOAT16,
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format
_WRAPPERS = ("state_dict", "model", "model_state_dict")  # under one of them, training scripts store the tensors


def read_checkpoint(path: str | os.PathLike) -> Tensors:
    """Read a file of either kind, which its first bytes tell apart.

    Returns:
        {name: tensor}. Tensors of bfloat16 are float32.

    Raises:
        UserError: There is no such file, it is damaged, or it contains anything but tensors.
    """
    if not os.path.isfile(path):
        raise UserError(f"no such weights file: {path}")
    return read_torch_archive(path) if zipfile.is_zipfile(path) else read_safetensors(path)


def read_safetensors(path: str | os.PathLike) -> Tensors:
    """Read all tensors of a safetensors file. Returns and raises as `read_checkpoint`."""
    try:
        with open(path, "rb") as file:
            entries, start = _safetensors_header(file, os.path.getsize(path))
            return {name: _safetensors_tensor(file, start, entry) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, struct.error) as error:
        raise UserError(
            f"{path} is neither a complete safetensors file nor a PyTorch archive: {_short(error)}"
        ) from None


def _safetensors_header(file: IO[bytes], size: int) -> tuple[dict[str, Any], int]:
    """Return the entries of all tensors, and where their bytes begin."""
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(_MAX_HEADER, size - 8):
        raise ValueError("its header is longer than the file")
    entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return entries, 8 + length


def _safetensors_tensor(file, start, entry):
    begin, end = entry["data_offsets"]
    shape, kind = tuple(entry["shape"]), _SAFETENSORS_TYPES[entry["dtype"]]
    if any(not isinstance(side, int) or side < 0 for side in (*shape, begin)):
        raise ValueError("a shape or an offset is no natural number")
    if end - begin != math.prod(shape) * _stored_type(kind).itemsize:
        raise ValueError("the bytes of a tensor do not match its shape")
    file.seek(start + begin)
    return _values(file.read(end - begin), kind, math.prod(shape)).reshape(shape)


def read_torch_archive(path: str | os.PathLike) -> Tensors:
    """Read all tensors of a file by `torch.save` or `torch.jit.save`. Returns and raises as `read_checkpoint`."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = _load(archive)
    except UserError as error:
        raise UserError(f"{path} is refused: {error}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(f"{path} is no complete PyTorch archive: {_short(error)}") from None
    while wrapper := next((name for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None):
        content = content[wrapper]
    return dict(_flat(content))


def _load(archive: zipfile.ZipFile) -> Mapping[str, Any]:
    pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise UserError("it has no data.pkl, as PyTorch's archives have")
    file = io.BytesIO(_stored(archive, pickles[0]))
    content = _TensorUnpickler(file, archive, pickles[0].removesuffix("data.pkl")).load()
    content = getattr(content, "state", content)
    if not isinstance(content, Mapping):
        raise UserError(f"it contains {type(content).__name__}, not tensors by name")
    return content


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a file of an archive. PyTorch compresses code only; a small compressed file could fill the memory."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise UserError(f"{name} is compressed, which PyTorch's tensors are not")
    return archive.read(name)


class _TensorUnpickler(pickle.Unpickler):
    """Unpickles tensors and containers of them only.

    Args:
        file: The pickle.
        archive: The archive that holds the values of the tensors.
        prefix: Folder of the pickle inside the archive.
    """

    def __init__(self, file: IO[bytes], archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._archive, self._prefix = archive, prefix
        self._storages: dict[str, np.ndarray] = {}
        # A class of this file alone, as a pickle can set attributes of what it names.
        self._module = type("Module", (_Module,), {})

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of a pickle.

        Raises:
            UserError: Tensors do not need the name.
        """
        if module.startswith("__torch__"):  # a class of a TorchScript module
            return self._module
        if module == "torch" and name in _STORAGE_TYPES:
            return _STORAGE_TYPES[name]
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._first,
            ("torch.jit._pickle", "restore_type_tag"): self._first,
            **{("torch.jit._pickle", f"build_{kind}list"): self._first for kind in ("int", "double", "bool", "tensor")},
        }
        if (module, name) not in known:
            raise UserError(f"it asks for {module}.{name}, and only tensors are read")
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Return the values of a storage: its place in the archive is what a pickle names instead of the values."""
        _, kind, key, _, count = pid
        if key not in self._storages:
            self._storages[key] = _values(_stored(self._archive, f"{self._prefix}data/{key}"), kind, count)
        return self._storages[key]

    def _tensor(self, storage, offset, size, stride, *_):
        steps = [(side - 1) * step for side, step in zip(size, stride, strict=True)]
        empty = math.prod(size) == 0
        if min(offset, *size, *stride, 0) < 0 or not isinstance(storage, np.ndarray):
            raise ValueError("a tensor has a negative size")
        if not empty and (offset + sum(steps) >= len(storage) or math.prod(size) > len(storage)):
            raise ValueError("a tensor is larger than its storage")
        values = storage[:0] if empty else storage[offset:]
        strides = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(values, size, strides).copy()

    def _first(self, value, *_):
        return value


class _Module:
    """Stands for a TorchScript module: `state` holds its tensors and modules by name."""

    state: Mapping[str, Any]

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.state = state


def _flat(content: Any, prefix: str = "") -> Any:
    """Yield (name, tensor) of all tensors, also of modules inside modules."""
    for name, value in content.items():
        value = getattr(value, "state", value)
        if isinstance(value, np.ndarray):
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")


def _stored_type(kind: str) -> np.dtype:
    return np.dtype("uint16" if kind == _BFLOAT16 else kind).newbyteorder("<")


def _values(content: bytes, kind: str, count: int) -> np.ndarray:
    """Return `count` values of a type, [count]."""
    values = np.frombuffer(content, _stored_type(kind), count)
    return (values.astype(np.uint32) << 16).view(np.float32) if kind == _BFLOAT16 else values


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:100] or type(error).__name__
