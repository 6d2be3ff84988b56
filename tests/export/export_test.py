"""Exports of a tiny run in every format: compared with the run, taken by every command, refused when they differ."""

import json
import pathlib
import shutil
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from dr_tf.cli import export as command
from dr_tf.cli import predict
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import open_records
from dr_tf.export import parity
from dr_tf.inference.export_file import EXPORT, read_export
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.run import load_run, read_calibration
from tests import commands, tiny


class ExportTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.original = cls.folder / "run"
        shutil.copytree(tiny.run_dir(), cls.original)

    def _export(self, *flags, name="export"):
        output = self.folder / name
        return output, *commands.run(command.main, "--run_dir", self.original, "--output", output, *flags)

    def _check_same_decisions(self, exported, runtime):
        expected = Predictor.from_run(self.original, keras=True)
        found = Predictor.from_run(exported)
        self.assertIn(runtime, found.run.network.description)
        for path in tiny.photographs()[:4]:
            one, other = expected.decide(path), found.decide(path)
            self.assertEqual((one.action, one.grade), (other.action, other.grade))
            self.assertNear(one.p_positive, other.p_positive, 1e-4)

    def test_onnx(self):
        output, status, stdout, stderr = self._export("--format", "onnx", "--records", tiny.records_root())
        self.assertEqual(status, 0, stderr)
        self.assertIn(str(output), stdout)
        self.assertRegex(stderr, r"on \d+ cases \(tiny/64-plain-q95, validation\): logits differ by at most")
        self._check_same_decisions(output, "ONNX Runtime")
        self.assertEqual(read_export(output).comparison["equal_actions"], 1.0)
        _, answers, errors = commands.run(predict.main, "--run_dir", output, tiny.photographs()[0])
        self.assertRegex(answers, "refer|clear|retake")
        self.assertIn("ONNX Runtime", errors)

    @pytest.mark.slow
    def test_litert(self):
        output, status, _, stderr = self._export("--format", "litert", name="litert")
        self.assertEqual(status, 0, stderr)
        self._check_same_decisions(output, "LiteRT")
        operators = load_run(output).network.operators()
        self.assertFalse([name for name in operators if name.startswith(("Flex", "CUSTOM"))], operators)

    @pytest.mark.slow
    def test_litert_in_int8(self):
        network = self._check_int8("litert", "LiteRT")
        details = network._interpreter.get_tensor_details()
        shares = [detail["dtype"] == np.int8 for detail in details if len(detail["shape"]) == 4]
        self.assertGreater(np.mean(shares), 0.8)  # activations and weights of the convolutions
        self.assertFalse([name for name in network.operators() if name.startswith(("Flex", "CUSTOM"))])

    @pytest.mark.slow
    def test_int8_fits_the_rule_anew_on_the_quantized_networks_own_answers(self):
        self._check_int8("onnx", "ONNX Runtime")

    def _check_int8(self, format, runtime):
        """Export in int8; the scores that the rule was fitted on are the network's own. Return the network."""
        flags = ["--quantize", "int8", "--records", tiny.records_root(), "--accept_difference"]
        output, status, _, stderr = self._export("--format", format, *flags, name=f"{format}_int8")
        self.assertEqual(status, 0, stderr)
        network = load_run(output).network
        self.assertIn(f"int8, in {runtime}", network.description)
        scored, _ = read_calibration(output)
        images = ImageLoader(open_records(tiny.records_root(), tiny.DATASET), image_size=64, cache="none")
        pixels = np.stack([images.read(row) for row in scored.rows])
        self.assertAllClose(scored.scores["plain"], network(pixels)[0]["grade"], atol=1e-5)
        return network

    @pytest.mark.slow
    def test_saved_model_has_signatures_for_pixels_and_for_jpeg_files(self):
        output, status, _, stderr = self._export("--format", "saved_model", name="saved")
        self.assertEqual(status, 0, stderr)
        self._check_same_decisions(output, "SavedModel")
        loaded = tf.saved_model.load(str(output / "saved_model/1"))
        pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
        files = tf.stack([tf.io.encode_jpeg(image, quality=100) for image in pixels])
        decoded = tf.stack([tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE") for data in files])
        from_pixels = loaded.signatures["serving_default"](images=decoded)
        from_files = loaded.signatures["serve_jpeg"](images=files)
        expected = load_run(self.original, keras=True).network(decoded.numpy())[0]["grade"]
        self.assertAllClose(from_pixels["grade"], expected, atol=1e-4)
        self.assertAllClose(from_files["grade"], expected, atol=1e-4)
        self.assertIn('base_path: "/models/saved_model"', (output / "models.config").read_text())
        (record,) = tf.data.TFRecordDataset(str(output / "saved_model/1/assets.extra/tf_serving_warmup_requests"))
        self.assertIn(b"serving_default", record.numpy())
        self.assertIn(b"images", record.numpy())

    def test_a_network_beside_its_run_answers_for_it_until_the_run_changes(self):
        run = self.folder / "twin"
        shutil.copytree(self.original, run)
        status, _, stderr = commands.run(command.main, "--run_dir", run, "--format", "onnx")
        self.assertEqual(status, 0, stderr)
        self.assertEqual({path.name for path in (run / "onnx").iterdir()}, {"model.onnx", EXPORT})
        self.assertEqual(load_run(run).network.runtime, "ONNX Runtime")
        self.assertEqual(load_run(run, keras=True).network.runtime, "TensorFlow")
        with open(run / "model.keras", "ab") as file:
            file.write(b" ")
        self.assertEqual(load_run(run).network.runtime, "TensorFlow")

    def test_a_difference_leaves_nothing_unless_it_is_accepted(self):
        with mock.patch.object(parity, "EXACT", parity.Tolerance(-1.0, 1.0, 1.0)):
            output, status, _, stderr = self._export("--format", "onnx", name="wrong")
            self.assertEqual(status, 2)
            self.assertRegex(
                stderr, "differs from the run, and was not written: logits differ by up to .*, allowed is -1"
            )
            self.assertEqual([path for path in self.folder.iterdir() if "wrong" in path.name], [])
            output, status, _, _ = self._export("--format", "onnx", "--accept_difference", name="accepted")
        self.assertEqual(status, 0)
        self.assertIn("logits differ", json.loads((output / EXPORT).read_text())["comparison"]["problem"])

    def test_mistakes_in_one_line(self):
        for flags, line in (
            (["--format", "onnx", "--quantize", "int8"], "quantization needs the photographs"),
            (["--format", "saved_model", "--quantize", "int8"], "a SavedModel is not quantized|quantization needs"),
            (["--format", "litert", "--half"], "--half is for"),
        ):
            with self.subTest(flags):
                _, status, _, stderr = self._export(*flags, name="never")
                self.assertEqual(status, 2)
                self.assertRegex(stderr, line)
        (self.folder / "other").mkdir()
        (self.folder / "other/mine.txt").write_text("mine")
        _, status, _, stderr = self._export("--format", "onnx", name="other")
        self.assertRegex(stderr, "neither empty nor an export")
        self.assertTrue((self.folder / "other/mine.txt").exists())


if __name__ == "__main__":
    tf.test.main()
