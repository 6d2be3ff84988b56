"""Two record sets in one run: duplicates of test images are training images in neither."""

import contextlib
import io
import json
import pathlib
import shutil
import tempfile

import numpy as np
import pytest
import tensorflow as tf

import evaluate
import train
from dr_tf import configuration
from dr_tf.api import audit_record_sets
from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.evaluation.protocol.external import REASONS, open_training_records, shared_images
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.run import load_run, read_calibration
from tests import tiny
from tests.tfrecords_builder.trees import run_builder, write_photographs

TWIN = "twin/64-plain-q95"
BOTH = f"{tiny.DATASET}+{TWIN}"
LEFT_OUT = "the same file as a test photograph of another set"


class SeveralSetsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.records = cls.folder / "records"
        shutil.copytree(tiny.records_root() / tiny.DATASET, cls.records / tiny.DATASET)
        cls._build_twin()
        config = tiny.CONFIG.replace("'tiny/64-plain-q95'", f"['{tiny.DATASET}', '{TWIN}']")
        (cls.folder / "config.gin").write_text(
            f"{config}\ntrain.sampling = @weighted()\nweighted.by = ('source', 'class')\ntrain.modes = ()\n"
        )
        cls._train()

    @classmethod
    def _build_twin(cls):
        """Other images, except a test image of the tiny set in the training split, and a training image in the test split."""
        tiny_ones, twins = tiny.records_root().parent / "photographs", cls.folder / "photographs"
        for i, split in enumerate(("train", "valid", "calibration", "test")):
            for j, name in enumerate(tiny.CLASSES.split(",")):
                write_photographs(twins / split / name, ["00.jpg"], first_seed=500 + 5 * i + j)
        shutil.copy(tiny_ones / "test" / "mild" / "00.jpg", twins / "train" / "mild" / "copy.jpg")
        shutil.copy(tiny_ones / "train" / "severe" / "01.jpg", twins / "test" / "severe" / "copy.jpg")
        arguments = ["--name", "twin", "--classes", tiny.CLASSES, "--image_size", 64, "--audit", "off", "--workers", 1]
        run_builder("folder", "--source", twins, "--records", cls.records, "--folds", 2, *arguments)

    @classmethod
    def _train(cls, *flags):
        arguments = ["--gin_file", cls.folder / "config.gin", "--records", cls.records, "--run_dir", cls.folder / "run"]
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            train.main([str(argument) for argument in [*arguments, *flags]])

    def _refused(self, expected, *flags):
        with self.assertRaises(SystemExit) as caught:
            self._train(*flags)
        self.assertRegex(str(caught.exception), expected)

    def _names(self, rows):
        return open_records(self.records, BOTH).columns["image_id"][rows].tolist()

    def test_a_planted_copy_is_a_training_image_in_neither_set(self):
        fitted = self._names(read_calibration(self.folder / "run")[1]["fitted"])
        self.assertLen(fitted, 15 + 5 - 1)
        self.assertNotIn("twin/train/mild/copy.jpg", fitted)
        self.assertNotIn("tiny/train/severe/01.jpg", fitted)
        self.assertIn("tiny/train/severe/00.jpg", fitted)
        self.assertIn(f"# Shared by the sets, and left out = {{'{LEFT_OUT}': 2}}", self._config())

    def _config(self):
        return (self.folder / "run" / "config.gin").read_text()

    def test_the_run_names_both_sets(self):
        self.assertEqual(load_run(self.folder / "run").preparation.records, BOTH)
        configuration.parse([self.folder / "run" / "config.gin"])
        self.assertEqual(configuration.build_experiment(self.records)[1].name, BOTH)
        decision = Predictor.from_run(self.folder / "run").decide(tiny.photographs()[0])
        self.assertAllClose(sum(decision.probabilities.values()), 1)

    @pytest.mark.slow
    def test_without_audit_it_is_another_run(self):
        self._refused("is a run with another config .*left out = not looked for", "--audit", "off")

    def test_it_is_evaluated_on_both_with_a_slice_each(self):
        arguments = ["--run_dir", self.folder / "run", "--records", self.records, "--bootstrap_samples", 20]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            evaluate.main([str(argument) for argument in arguments])
        folder = self.folder / "run" / "evaluation" / f"{BOTH.replace('/', '-')}-test"
        metrics = json.loads((folder / "metrics.json").read_text())
        self.assertEqual((metrics["dataset"], metrics["n"]), (BOTH, 15 + 6))
        found = {(part["subgroup"], part["value"]): part["n"] for part in metrics["subgroups"]}
        self.assertEqual((found["dataset", "tiny"], found["dataset", "twin"]), (15, 6))

    def test_of_one_of_its_sets_only_the_test_split_was_not_fitted(self):
        own, twin = open_records(self.records, BOTH), open_records(self.records, "twin")
        self.assertEqual(open_training_records(self.records, BOTH, twin).name, BOTH)
        self.assertIsNone(open_training_records(self.records, f"{TWIN}+gone/64-plain-q95", twin))
        shared = shared_images(self.folder / "run", own, twin, audit_record_sets)
        fitted = twin.columns["image_id"][twin.columns["split"] != "test"]
        self.assertEqual(shared, dict.fromkeys(fitted, REASONS["exact"]))  # what its test split shows was left out

    @pytest.mark.slow
    def test_several_sets_beside_a_run_of_one(self):
        both = open_records(self.records, BOTH)
        shared = shared_images(self.folder / "one", both.parts[0], both, audit_record_sets)
        fitted = both.parts[0].columns["split"] != "test"
        expected = [*both.columns["image_id"][:60][fitted], "twin/test/severe/copy.jpg"]
        self.assertEqual(shared, dict.fromkeys(expected, REASONS["exact"]))

    def test_a_gate_of_other_arrays_is_refused_in_one_line(self):
        run = self.folder / "gate"
        shutil.copytree(self.folder / "run", run)
        with np.load(run / "gate.npz") as arrays:
            good = dict(arrays)
        few = good | {"mean": good["mean"][:4], "axes": good["axes"][:4]}
        for expected, arrays in {
            "gate.npz cannot be read: it contains an unknown array 'x'": {"x": np.zeros(1)},
            "gate.npz cannot be read: its mean contains values that are not finite numbers": good
            | {"mean": good["mean"] * np.nan},
            "gate.npz is for 4 features, the network has": few,
        }.items():
            np.savez(run / "gate.npz", **arrays)
            with self.subTest(expected), self.assertRaisesRegex(UserError, expected):
                load_run(run)
        with open(run / "gate.npz", "wb") as file:
            np.save(file, np.zeros(3))
        with self.assertRaisesRegex(UserError, "gate.npz cannot be read"):
            load_run(run)


if __name__ == "__main__":
    tf.test.main()
