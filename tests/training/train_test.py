"""train.py from the command line on a few small images: run directories, resuming, folds, grids and error messages."""

import contextlib
import csv
import importlib.util
import io
import json
import pathlib
import tempfile
import unittest
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from dr_tf.data.records import open_records
from dr_tf.inference.predictor import Predictor
from tests import tiny

CONFIG = f"""
{tiny.CONFIG}
train.epochs = 2
train.modes = ()
train.optimization = @optimization()
"""


class TrainTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.run_dir = self.folder / "run"
        (self.folder / "config.gin").write_text(CONFIG)

    def _train(self, *bindings, flags=(), run_dir=None, records=None):
        arguments = ["--gin_file", self.folder / "config.gin", "--records", records or tiny.records_root()]
        arguments += ["--run_dir", run_dir or self.run_dir, *flags]
        for binding in bindings:
            arguments += ["--gin_param", binding]
        train.main([str(argument) for argument in arguments])

    def _refused(self, expected, *bindings, **options):
        """The command ends with one line that matches."""
        with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(io.StringIO()):
            self._train(*bindings, **options)
        self.assertRegex(str(caught.exception), expected)
        self.assertNotIn("\n", str(caught.exception))

    def _history(self, run_dir=None):
        with open((run_dir or self.run_dir) / "history.csv", newline="") as file:
            return list(csv.DictReader(file))

    def test_a_run_directory_has_all_that_prediction_needs(self):
        self._train()
        expected = {
            "config.gin",
            "model.keras",
            "checkpoints",
            "tensorboard",
            "history.csv",
            "decision.json",
            "gate.npz",
            "curves.png",
        }
        self.assertLessEqual(expected, {path.name for path in self.run_dir.iterdir()})
        self.assertLen(self._history(), 2)
        photograph = next((tiny.records_root().parent / "photographs" / "test").rglob("*.jpg"))
        decision = Predictor.from_run(self.run_dir).decide(photograph)
        self.assertAllClose(sum(decision.probabilities.values()), 1)

    @pytest.mark.slow
    def test_the_model_opens_in_plain_keras(self):
        self._train()
        model = keras.saving.load_model(self.run_dir / "model.keras", safe_mode=True)
        self.assertEqual({type(layer).__module__.split(".")[0] for layer in model.layers}, {"keras"})

    @pytest.mark.slow
    def test_the_kept_epoch_is_the_best_by_the_validation_split(self):
        self._train("train.epochs = 3", "train.monitor = ('val_loss', 'min')")
        best = min(float(row["val_loss"]) for row in self._history())
        records = open_records(tiny.records_root(), "tiny/64-plain-q95")
        rows = records.rows("validation")
        model = keras.saving.load_model(self.run_dir / "model.keras")
        logits = model.predict(np.stack([records.image(row) for row in rows]), verbose=0)["grade"]
        truth = records.columns["grade"][rows]
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(truth, logits)
        self.assertAllClose(loss, best, rtol=1e-4)

    @pytest.mark.slow
    def test_many_settings_together(self):
        self._train(
            "train.precision = 'mixed_bfloat16'",
            "train.class_weights = 'balanced'",
            "train.steps_per_execution = 3",
            "train.patience = 1",
            "train.keep = 'best'",
            "optimization.optimizer = 'adamw'",
            "optimization.weight_decay = 1e-4",
            "optimization.accumulation_steps = 3",
            "optimization.ema = 0.9",
            "optimization.clip_norm = 1.0",
            "optimization.decay = 'cosine'",
            "optimization.warmup_epochs = 1",
            "optimization.backbone_rate = 0.1",
            "classifier.hidden = (8,)",
            "classifier.dropout = 0.5",
        )
        self.assertLen(self._history(), 2)
        layers = keras.saving.load_model(self.run_dir / "model.keras").layers
        self.assertTrue(any(isinstance(layer, keras.layers.Dropout) for layer in layers))

    @unittest.skipUnless(
        importlib.util.find_spec("keras_cv"), "keras_cv is not installed: pip install 'dr_tf[keras_cv]'"
    )
    def test_a_policy_of_keras_cv_is_made_under_determinism(self):
        policy = ("train.augmentation = @augmentation()", "augmentation.policy = @rand_augment()")
        self._train("train.epochs = 1", *policy)
        self.assertLen(self._history(), 1)

    @pytest.mark.slow
    def test_early_stopping(self):
        self._train("train.epochs = 9", "train.patience = 1", "optimization.learning_rate = 0.0")
        self.assertLess(len(self._history()), 9)

    @pytest.mark.slow
    def test_tensorboard_images(self):
        self._train()
        pictures = EventAccumulator(str(self.run_dir / "tensorboard" / "pictures")).Reload().Tags()["tensors"]
        self.assertEqual(set(pictures), {"config", "training images", "confusion matrix", "class-activation maps"})
        curves = EventAccumulator(str(self.run_dir / "tensorboard" / "train")).Reload().Tags()["tensors"]
        self.assertLessEqual({"epoch_loss", "epoch_learning_rate"}, set(curves))

    @pytest.mark.slow
    def test_init_from_starts_with_the_weights_of_the_first_run(self):
        self._train()
        second = self.folder / "second"
        still = ("optimization.learning_rate = 0.0", "classifier.dropout = 0.2")
        self._train(*still, flags=["--init_from", self.run_dir], run_dir=second)
        one, two = (keras.saving.load_model(run / "model.keras").trainable_weights for run in (self.run_dir, second))
        for a, b in zip(one, two, strict=True):
            self.assertAllEqual(a, b)
        self._refused(
            "has other layers than this config",
            "backbone.stem = 8",
            flags=["--init_from", second],
            run_dir=self.folder / "c",
        )
        self._refused("--init_from: .* cannot be read", flags=["--init_from", self.folder], run_dir=self.folder / "d")

    @pytest.mark.slow
    def test_folds_are_held_out_and_pooled(self):
        self._refused("no epoch can be selected: set train.keep = 'last'", flags=["--folds", "2", "--refit"])
        self._train(
            "train.keep = 'last'", "train.epochs = 1", "train.modes = ('knn',)", flags=["--folds", "2", "--refit"]
        )
        pooled = np.load(self.run_dir / "out_of_fold.npz")
        self.assertEqual(len(np.unique(pooled["rows"])), 45)  # all but the 15 of the test split
        records = open_records(tiny.records_root(), "tiny/64-plain-q95")
        self.assertAllEqual(records.columns["fold"][pooled["rows"]], pooled["fold"])
        self.assertEqual(json.loads((self.run_dir / "out_of_fold.json").read_text())["n"], 45)
        modes = json.loads((self.run_dir / "refit" / "decision.json").read_text())["modes"]
        self.assertEqual(
            {mode["report"]["images"] for mode in modes.values()}, {45}
        )  # each by the network that held it out
        fitted = json.loads((self.run_dir / "fold-0" / "decision.json").read_text())["modes"]
        self.assertEqual(list(fitted), ["plain"])  # nothing was left to calibrate the other modes on
        decision = Predictor.from_run(self.run_dir / "refit").decide(tiny.photographs()[0])
        self.assertLen(decision.probabilities, 5)
        again = ("train.keep = 'last'", "train.epochs = 1", "train.modes = ()", "optimization.learning_rate = 0.0")
        second = self.folder / "second"
        self._train(*again, flags=["--folds", "2", "--refit", "--init_from", self.run_dir], run_dir=second)
        for part in ("fold-0", "fold-1", "refit"):  # each starts from the same part of the first
            one, two = (keras.saving.load_model(run / part / "model.keras") for run in (self.run_dir, second))
            self.assertAllEqual(one.trainable_weights[0], two.trainable_weights[0])
        refit = self.run_dir / "refit"
        seen = ["--folds", "2", "--init_from", refit]
        self._refused(
            "was trained on images that this run holds out",
            "train.keep = 'last'",
            flags=seen,
            run_dir=self.folder / "third",
        )
        alone = ["--init_from", refit]  # its validation and calibration splits were fitted
        self._refused("was trained on images that this run holds out", flags=alone, run_dir=self.folder / "fourth")
        self._refused("has 2 folds, not 4", flags=["--folds", "4"], run_dir=self.folder / "four")
        for fold in ("-1", "2"):
            flags = ["--folds", "2", "--fold", fold]
            self._refused(f"--fold {fold}: the folds are 0 to 1", flags=flags, run_dir=self.folder / "five")
        self.assertFalse((self.folder / "five").exists())

    @pytest.mark.slow
    def test_a_grid_from_the_command_line(self):
        (self.folder / "grid.gin").write_text("grid.parameters = {'optimization.learning_rate': [0.1, 0.01]}")
        self._train("train.epochs = 1", flags=["--grid_file", self.folder / "grid.gin"])
        self.assertLen((self.run_dir / "trials.md").read_text().splitlines(), 4)

    def test_errors_are_one_line(self):
        self._refused("no records 'nothing/64'", "train.dataset = 'nothing/64'")
        self._refused("names 'worse_eye', which needs a model of both eyes", "train.modes = ('tta2', 'worse_eye')")
        self._refused(
            "none of the 60 examples of tiny/64-plain-q95 has the labels",
            "train.heads = {'it': @binary()}",
            "binary.positive = 'odir_G'",
        )
        self._refused(
            "unknown positive definition 'sick'", "train.heads = {'it': @binary()}", "binary.positive = 'sick'"
        )
        self._refused("unknown backbone 'resnet'", "backbone.name = 'resnet'")
        self._refused("train.precision must be 'float32', .* not 'half'", "train.precision = 'half'")
        self._refused("no parameter 'epoch'", "train.epoch = 1")

    def test_settings_used_at_the_end_are_checked_before_the_first_step(self):
        for expected, binding in {
            "train.class_weights must be 'balanced', .* not 'blanced'": "train.class_weights = 'blanced'",
            "train.class_weights has 2 numbers, not one for each of the 5 classes": "train.class_weights = (1.0, 2.0)",
            "train.keep must be 'best' or 'last', not 'lst'": "train.keep = 'lst'",
            "monitor 'val_kapa' is no metric of the validation split; known: val_loss, val_accuracy": (
                "train.monitor = ('val_kapa', 'max')"
            ),
            "train.monitor must be .text, 'max' or 'min'., or None": "train.monitor = ('val_loss', 'low')",
            "unknown operating point 'sensitivity_0.8'; known": "train.operating_point = 'sensitivity_0.8'",
            "train.prior must be 'train' or 'uniform', .* not 'natural'": "train.prior = 'natural'",
            "the table of a prior needs each class once": "train.prior = {'no DR': 1.0}",
            "unknown mode 'tta3'; known": "train.modes = ('tta3',)",
            "train.decides names 'dme'; the outputs of train.heads are grade": "train.decides = 'dme'",
            "train.loss_weights names 'dme'": "train.loss_weights = {'dme': 0.5}",
            "train.heads must be {text: object such as @softmax..}": "train.heads = @softmax()",
        }.items():
            with self.subTest(binding):
                self._refused(expected, binding)
                self.assertFalse((self.run_dir / "model.keras").exists())

    @pytest.mark.slow
    def test_another_config_in_the_same_run_directory(self):
        self._train()
        self._refused("another config .*there: train.epochs = 2; here: train.epochs = 3", "train.epochs = 3")

    def test_a_loss_of_nan_names_the_images_of_the_batch(self):
        self._refused(r"the loss is nan in epoch \d, step \d.*train/\w+/0\d.jpg", "optimization.learning_rate = 1e30")

    def test_a_class_without_training_examples(self):
        whole = open_records(tiny.records_root(), "tiny/64-plain-q95")
        whole.columns["grade"][whole.columns["grade"] == 3] = 2
        with mock.patch("dr_tf.configuration.open_records", return_value=whole):
            self._refused("no example of severe NPDR among the 15 training examples")

    def test_a_full_disk(self):
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        with mock.patch("numpy.savez", full):
            self._refused("epoch-00001 cannot be written: No space left on device; nothing half-written")
        self.assertEqual(list((self.run_dir / "checkpoints").iterdir()), [])


if __name__ == "__main__":
    tf.test.main()
