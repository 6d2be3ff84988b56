"""An export from a stranger runs no code, reads no other file and unpacks nothing large, whichever of its files was prepared.

The exports are copies of the model that comes with dr_tf. Each is given to `predict` and `explain`, which must end with one
line and status 2, or take no notice of what was prepared.
"""

import io
import json
import os
import pathlib
import pickle
import shutil
import sys
import tempfile
import unittest
import zipfile

import numpy as np
import pytest

from dr_tf import predict
from dr_tf.explain import __main__ as explain
from dr_tf.fundus.synthesis import render_patient
from dr_tf.inference.ready import READY
from tests import canary, commands
from tests.canary import GIN, Pickled


class HostileExportTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder, cls.hit = canary.lay(cls)
        cls.image = cls.folder / "eye.png"
        cls.image.write_bytes(render_patient(0, side=256).eyes[0].encode())

    def stranger(self):
        """A fresh export: the network of the ready model at the top of the folder, without the Keras model."""
        export = pathlib.Path(tempfile.mkdtemp(dir=self.folder)) / "export"
        shutil.copytree(READY, export, ignore=shutil.ignore_patterns("model.keras", "onnx"))
        shutil.copytree(READY / "onnx", export, dirs_exist_ok=True)
        return export

    def check(self, export, expected=r"^error: .*\n$"):
        """Run the commands; each prints a line that matches `expected`, or answers if that is None."""
        for main, flags in ((predict.main, ()), (explain.main, ("--output", export.parent / "maps"))):
            sys.modules.pop("canary_payload", None)
            status, _, errors = commands.run(main, "--run_dir", export, *flags, self.image)
            self.assertFalse(self.hit.exists(), "the canary was run")
            self.assertNotIn("canary_payload", sys.modules)
            if expected is None:
                self.assertIn(status, (0, 1), errors)
            else:
                self.assertEqual(status, 2, errors)
                self.assertRegex(errors, expected)
                self.assertEqual(len(errors.splitlines()), 1)

    def test_the_canary_works(self):
        pickle.loads(pickle.dumps(Pickled()))
        self.assertTrue(self.hit.exists())
        self.hit.unlink()
        sys.modules.pop("canary_payload")

    def test_a_good_export_answers(self):
        self.check(self.stranger(), None)

    def test_the_config_is_not_evaluated(self):
        for kind, text in GIN.items():
            with self.subTest(kind):
                export = self.stranger()
                (export / "config.gin").write_text(text.format(folder=self.folder))
                self.check(export, None)

    def test_gin_and_code_in_json(self):
        for name in ("export.json", "decision.json"):
            for text in (GIN["import"], json.dumps({"__reduce__": "canary_payload.payload"}), "[" * 200_000):
                with self.subTest(file=name, text=text[:20]):
                    export = self.stranger()
                    (export / name).write_text(text)
                    self.check(export)

    def test_paths_in_the_description(self):
        """No field is a path; an unknown field is refused."""
        for fields in ({"format": "../../hit"}, {"path": "/etc/passwd"}, {"outputs": {"../hit": 5}}):
            with self.subTest(fields):
                export = self.stranger()
                stated = json.loads((export / "export.json").read_text())
                (export / "export.json").write_text(json.dumps(stated | fields))
                self.check(export)

    def test_pickles_in_arrays(self):
        export = self.stranger()
        with np.load(export / "gate.npz") as arrays:
            np.savez(export / "gate.npz", **{name: np.array([Pickled()], object) for name in arrays})
        self.check(export, r"^error: .*gate.npz cannot be read: Object arrays cannot be loaded")
        (export / "gate.npz").write_bytes(pickle.dumps(Pickled()))
        self.check(export, r"^error: .*gate.npz cannot be read: File is not a zip file")

    def test_paths_and_sizes_in_archives(self):
        zeros = io.BytesIO()
        np.save(zeros, np.zeros(25_000_000))
        for member, data, said in (
            ("../hit.npy", b"x", "a member outside of its folder"),
            (str(self.hit), b"x", "a member outside of its folder"),
            ("C:\\hit.npy", b"x", "a member outside of its folder"),
            ("zeros.npy", zeros.getvalue(), "unpacks to 20[0-9] MB"),
        ):
            with self.subTest(member):
                export = self.stranger()
                with zipfile.ZipFile(export / "gate.npz", "a", zipfile.ZIP_DEFLATED) as archive:
                    archive.writestr(member, data)
                self.check(export, f"gate.npz cannot be read: its archive (has )?{said}")

    def test_an_array_that_claims_to_be_huge(self):
        export = self.stranger()
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
        with np.load(export / "gate.npz") as arrays:
            names = list(arrays)
        with zipfile.ZipFile(export / "gate.npz", "w") as archive:
            for name in names:
                archive.writestr(f"{name}.npy", header.getvalue())
        self.check(export, "gate.npz cannot be read")

    def test_custom_operators(self):
        import onnx

        for domain in ("com.canary", "com.microsoft", "ai.onnx.contrib"):
            with self.subTest(domain):
                export = self.stranger()
                model = onnx.load(export / "model.onnx")
                model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
                next(node for node in model.graph.node if node.op_type == "Conv").domain = domain
                onnx.save(model, export / "model.onnx")
                self.check(export, f"is refused: it has an operator of the domain '{domain}'")

    def test_data_in_other_files(self):
        """Neither outside of the folder nor in it: an export holds its weights itself. A pipe would show that it is read."""
        import onnx

        for location in ("../../pipe", str(self.folder / "pipe"), "pipe", "file:///etc/passwd"):
            with self.subTest(location):
                export = self.stranger()
                for pipe in (self.folder / "pipe", export / "pipe"):
                    if not pipe.exists():
                        os.mkfifo(pipe)
                model = onnx.load(export / "model.onnx")
                onnx.external_data_helper.set_external_data(model.graph.initializer[0], location=location)
                model.graph.initializer[0].ClearField("raw_data")
                (export / "model.onnx").write_bytes(model.SerializeToString())
                self.check(export, "is refused: it has tensors in other files")

    def test_links_to_other_files(self):
        """A link in a folder is followed as any file, and what it leads to is checked like the rest."""
        export = self.stranger()
        (export / "model.onnx").unlink()
        os.mkfifo(self.folder / "linked")
        (export / "model.onnx").symlink_to(self.folder / "linked")
        self.check(export, "model.onnx is not a file")

    @pytest.mark.slow
    def test_a_saved_model_and_a_litert_file_with_operators_that_write(self):
        import tensorflow as tf

        from dr_tf.export.saved_model import write_saved_model

        signature = {"images": tf.TensorSpec([1, 16, 16, 3], tf.uint8, name="images")}

        def compute(images):
            with tf.control_dependencies([tf.io.write_file(str(self.hit), "the canary was run")]):
                return {"grade": tf.identity(tf.reduce_mean(tf.cast(images["images"], tf.float32), axis=(1, 2)))}

        function = tf.function(compute, input_signature=[signature])
        export = self.stranger()
        stated = json.loads((export / "export.json").read_text())
        write_saved_model(export / "saved_model", function, signature)
        self.hit.unlink(missing_ok=True)  # tracing does not write it, but a constant could be folded
        (export / "export.json").write_text(json.dumps(stated | {"format": "saved_model"}))
        self.check(export, r"error: .*is refused: its operator WriteFile may have an effect")
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        converter.allow_custom_ops = True
        (export / "model.tflite").write_bytes(converter.convert())
        self.hit.unlink(missing_ok=True)
        (export / "export.json").write_text(json.dumps(stated | {"format": "litert"}))
        self.check(export, r"error: .*model.tflite cannot be loaded by LiteRT")


if __name__ == "__main__":
    unittest.main()
