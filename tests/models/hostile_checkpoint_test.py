"""Hostile checkpoint files are refused in one line, and nothing in them is run; published types and layouts are read."""

import collections
import io
import json
import pathlib
import pickle
import tempfile
import unittest
import zipfile

import numpy as np

from dr_tf.console import UserError
from dr_tf.models.checkpoint_files import read_checkpoint

CLIP = pathlib.Path(__file__).parent / "fixtures/clip"


class FileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def refused(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        with self.assertRaises(UserError) as raised:
            read_checkpoint(path)
        self.assertNotIn("\n", str(raised.exception))


def safetensors(header, values=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + values


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


class SafetensorsTest(FileTest):
    def test_types(self):
        values = np.float32([1.5, -2])
        tensors = {
            "single": entry(shape=[2, 1]),
            "half": entry("F16", [2], [8, 12]),
            "brain": entry("BF16", [2], [12, 16]),
            "whole": entry("I64", [], [16, 24]),
            "__metadata__": {"format": "pt"},
        }
        data = values.tobytes() + values.astype(np.float16).tobytes() + values.view(np.uint16)[1::2].tobytes()
        path = self.folder / "model.safetensors"
        path.write_bytes(safetensors(tensors, data + np.int64(7).tobytes()))
        read = read_checkpoint(path)
        self.assertEqual(read["single"].tolist(), [[1.5], [-2]])
        for name in ("half", "brain"):
            self.assertEqual(read[name].tolist(), [1.5, -2])
        self.assertEqual((read["whole"].tolist(), read["whole"].dtype), (7, np.int64))

    def test_hostile(self):
        eight = bytes(8)
        for data in (
            b"",
            b"\xff" * 8 + b"{}",
            safetensors(b"[" * 100_000),
            safetensors(b"[1]"),
            safetensors({"a": entry()}),
            safetensors({"a": entry(offsets=[-8, 0])}, eight),
            safetensors({"a": entry(offsets=[8, 0])}, eight),
            safetensors({"a": entry(shape=[10**12])}, eight),
            safetensors({"a": entry(shape=[-1, -2])}, eight),
            safetensors({"a": entry(dtype="O")}, eight),
            safetensors({"a": entry(dtype=["F32"])}, eight),
            safetensors({"a": 1}),
        ):
            with self.subTest(data[:60]):
                self.refused("model.safetensors", data)


def torch_file(pickled, storage=bytes(16), compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("model/data.pkl", pickled)
        archive.writestr("model/data/0", storage)
    return file.getvalue()


class Named:
    """Is pickled as a name of another module, called with arguments."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments


STORAGE = object()


class Pickler(pickle._Pickler):
    """Pickles `Named` without importing what it names, and the storage as PyTorch does."""

    def persistent_id(self, value):
        return ("storage", Named("torch FloatStorage"), "0", "cpu", 4) if value is STORAGE else None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            self.write(b"c" + value.name.replace(" ", "\n").encode() + b"\n")
            if value.arguments:
                super().save(value.arguments)
                self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def pickled(value):
    file = io.BytesIO()
    Pickler(file, 2).dump(value)
    return file.getvalue()


def tensor(offset=0, shape=(2,), strides=(1,)):
    arguments = STORAGE, offset, shape, strides, False, collections.OrderedDict()
    return Named("torch._utils _rebuild_tensor_v2", *arguments)


class TorchTest(FileTest):
    def test_same_tensors_in_both_formats(self):
        published, other = (read_checkpoint(CLIP / name) for name in ("pytorch_model.bin", "model.safetensors"))
        self.assertGreaterEqual(set(published), set(other))
        for name, values in other.items():
            np.testing.assert_array_equal(published[name], values.astype(np.float16), name)

    def test_strides(self):
        path = self.folder / "model.bin"
        values = np.arange(4, dtype=np.float32).tobytes()
        path.write_bytes(
            torch_file(pickled({"a": tensor(shape=(2, 2), strides=(1, 2)), "b": tensor(3, (), ())}), values)
        )
        self.assertEqual({k: v.tolist() for k, v in read_checkpoint(path).items()}, {"a": [[0, 2], [1, 3]], "b": 3.0})

    def test_hostile(self):
        canary = self.folder / "canary"
        command = Named("os system", f"touch {canary}")
        for data in (
            b"",
            torch_file(pickled({"a": command})),
            torch_file(pickled({"a": Named("builtins eval", "1")})),
            torch_file(pickled([1])),
            torch_file(pickled({"a": tensor(offset=3)})),
            torch_file(pickled({"a": tensor(offset=-1)})),
            torch_file(pickled({"a": tensor(strides=(10**9,))})),
            torch_file(pickled({"a": tensor(shape=(10**12,), strides=(0,))})),
            torch_file(pickled({"a": tensor()}), bytes(10**6), zipfile.ZIP_DEFLATED),
            torch_file(pickled({"a": tensor()})[:-3]),
        ):
            with self.subTest(data[:60]):
                self.refused("pytorch_model.bin", data)
        self.assertFalse(canary.exists())


if __name__ == "__main__":
    unittest.main()
