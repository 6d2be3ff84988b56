"""Checkpoint files: archives by PyTorch itself, damaged files, and pickles that call other functions."""

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
from dr_tf.models.checkpoint_files import read_checkpoint, read_safetensors, read_torch_archive

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self._reduced = function, arguments

    def __reduce__(self):
        return self._reduced


class Pickler(pickle.Pickler):
    """Writes `Storage` objects as PyTorch writes the values of tensors."""

    def persistent_id(self, thing):
        return ("storage", thing.kind, "0", "cpu", thing.count) if isinstance(thing, Storage) else None


class Storage(collections.namedtuple("Storage", "kind count")):
    pass


class FolderTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.folder / "file"

    def archive(self, content, values=b"", compression=zipfile.ZIP_STORED):
        file = io.BytesIO()
        Pickler(file, 2).dump(content)
        # A pickle of the real names, which this process cannot import.
        text = file.getvalue().replace(
            b"tests.models.checkpoint_files_test\n_tensor", b"torch._utils\n_rebuild_tensor_v2"
        )
        text = text.replace(b"tests.models.checkpoint_files_test\nFloatStorage", b"torch\nFloatStorage")
        with zipfile.ZipFile(self.path, "w", compression) as archive:
            archive.writestr("file/data.pkl", text)
            archive.writestr("file/data/0", values)
        return self.path

    def refused(self, path, expected):
        with self.assertRaisesRegex(UserError, expected) as caught:
            read_checkpoint(path)
        self.assertNotIn("\n", str(caught.exception))
        self.assertIn(str(path), str(caught.exception))


class TorchArchiveTest(FolderTest):
    def test_every_kind_of_tensor(self):
        tensors = read_torch_archive(FIXTURES / "tensors.pt")
        expected = {
            "plain": MATRIX, "transposed": MATRIX.T, "slice": MATRIX[1:, 1:3], "half": MATRIX.astype(np.float16),
            "bfloat16": MATRIX, "count": np.int64(7), "empty": np.zeros((0, 3), np.float32), "parameter": MATRIX[0],
            "flags": np.array([True, False]),
        }  # fmt: skip
        self.assertEqual(list(tensors), list(expected))
        for name, value in expected.items():
            self.assertEqual(tensors[name].dtype, value.dtype, name)
            np.testing.assert_array_equal(tensors[name], value)

    def test_a_torchscript_module(self):
        tensors = read_torch_archive(FIXTURES / "script.pt")
        self.assertIn("visual.1.running_var", tensors)
        np.testing.assert_array_equal(tensors["visual.0.weight"].ravel(), np.arange(6))
        np.testing.assert_array_equal(tensors["visual.0.bias"], np.ones(3))

    def test_a_pickle_that_calls_a_function_is_refused_and_the_function_never_runs(self):
        canary = self.folder / "canary"
        import os
        import subprocess

        for function, arguments in (
            (os.system, (f"touch {canary}",)),
            (eval, (f"open({str(canary)!r}, 'w')",)),
            (open, (str(canary), "w")),
            (subprocess.Popen, (["touch", str(canary)],)),
            (getattr, ("", "join")),
            (pathlib.Path, (str(canary),)),
        ):
            with self.subTest(function):
                for content in (Call(function, *arguments), {"x": Call(function, *arguments)}):
                    self.refused(self.archive(content), f"asks for .*{function.__name__}.*only tensors are read")
        self.assertFalse(canary.exists())

    def test_names_that_only_look_like_those_of_tensors(self):
        for module, name in (
            ("torch._utils", "_import_dotted_name"),
            ("torch", "load"),
            ("collections", "namedtuple"),
            ("torch.jit._pickle", "build_boollist.__self__"),
            ("numpy", "load"),
            ("torchx", "FloatStorage"),
        ):
            with zipfile.ZipFile(self.path, "w") as archive:
                archive.writestr("file/data.pkl", f"c{module}\n{name}\n.")
            self.refused(self.path, "only tensors are read")

    def test_tensors_beyond_their_storage(self):
        values = MATRIX.tobytes()
        storage = Storage(FloatStorage, 12)
        tensor = read_checkpoint(self.archive({"x": Call(_tensor, storage, 4, (2, 3), (4, 1))}, values))["x"]
        np.testing.assert_array_equal(tensor, MATRIX[1:, :3])
        for offset, size, stride in ((0, (3, 5), (5, 1)), (11, (2,), (1,)), (-1, (2,), (1,)), (0, (2,), (-1,)),
                                     (0, (10**9, 10**9), (0, 0))):  # fmt: skip
            path = self.archive({"x": Call(_tensor, storage, offset, size, stride)}, values)
            self.refused(path, "larger than its storage|negative size")
        self.refused(
            self.archive({"x": Call(_tensor, Storage(FloatStorage, 13), 0, (1,), (1,))}, values), "no complete"
        )

    def test_compressed_values(self):
        tensor = Call(_tensor, Storage(FloatStorage, 12), 0, (12,), (1,))
        self.refused(self.archive({"x": tensor}, MATRIX.tobytes(), zipfile.ZIP_DEFLATED), "is compressed")

    def test_other_archives(self):
        self.refused(self.archive([1, 2]), "contains list, not tensors by name")
        with zipfile.ZipFile(self.path, "w") as archive:
            archive.writestr("readme.txt", "nothing")
        self.refused(self.path, "has no data.pkl")
        content = (FIXTURES / "tensors.pt").read_bytes()
        self.path.write_bytes(content[:200] + bytes(100) + content[300:])
        self.refused(self.path, "no complete PyTorch archive")


class SafetensorsTest(FolderTest):
    def write(self, header, content=b""):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        self.path.write_bytes(len(text).to_bytes(8, "little") + text + content)
        return self.path

    def test_values(self):
        bfloat16 = (np.float32([1, -2.5]).view(np.uint32) >> 16).astype(np.uint16)
        header = {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
            "b": {"dtype": "BF16", "shape": [2], "data_offsets": [48, 52]},
            "c": {"dtype": "F16", "shape": [], "data_offsets": [52, 54]},
            "d": {"dtype": "I64", "shape": [0, 2], "data_offsets": [54, 54]},
        }
        content = MATRIX.tobytes() + bfloat16.tobytes() + np.float16(0.5).tobytes()
        tensors = read_safetensors(self.write(header, content))
        self.assertEqual(list(tensors), ["a", "b", "c", "d"])
        np.testing.assert_array_equal(tensors["a"], MATRIX)
        np.testing.assert_array_equal(tensors["b"], np.float32([1, -2.5]))
        self.assertEqual((tensors["c"].dtype, tensors["c"].shape, float(tensors["c"])), (np.float16, (), 0.5))
        self.assertEqual(tensors["d"].shape, (0, 2))

    def test_damaged_files(self):
        good = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        for change in ({"dtype": "X9"}, {"shape": [3]}, {"shape": [-2]}, {"shape": "2"}, {"data_offsets": [0]},
                       {"data_offsets": [8, 16]}, {"data_offsets": [-8, 0]}, {"shape": [10**30]}):  # fmt: skip
            with self.subTest(change):
                self.refused(self.write({"a": good | change}, bytes(8)), "neither a complete safetensors file nor")
        for header in (b"", b"[1]", b"{", b"\xff", b'{"a": 1}', b"[" * 100_000):
            with self.subTest(header[:5]):
                self.refused(self.write(header), "neither a complete safetensors file nor")
        for content in (b"", b"abc", b"\xff" * 20, pickle.dumps({"a": 1})):
            self.path.write_bytes(content)
            self.refused(self.path, "neither a complete safetensors file nor")


def _tensor():
    """Stands for `torch._utils._rebuild_tensor_v2` in pickles."""


class FloatStorage:
    """Stands for `torch.FloatStorage` in pickles."""


if __name__ == "__main__":
    unittest.main()
