"""Runs with a prototype head: class means before the first step, no epochs, and out-of-fold evaluation in every mode."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import evaluate
import train
from dr_tf.data.records import open_records
from dr_tf.inference.run import load_run, read_scored_rows
from dr_tf.models.network import KerasNetwork
from tests import commands, tiny

CONFIG = f"""
train.dataset = '{tiny.DATASET}'
train.heads = {{'grade': @prototypes()}}
train.model = @classifier
train.epochs = 0
train.keep = 'last'
train.modes = ('knn',)
classifier.backbone = @backbone()
{tiny.BACKBONE}
backbone.trainable_from = 'none'
train.feature_bank = @feature_bank()
"""


class NoEpochsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny.temporary_folder()
        cls.run_dir = tiny.train_run(cls.folder, CONFIG, tiny.records_root())

    def test_prototypes_are_the_class_means_of_the_training_features(self):
        records = open_records(tiny.records_root(), tiny.DATASET)
        rows = records.rows("train")
        network = load_run(self.run_dir).network
        features = network(np.stack([records.image(row) for row in rows]))[1]
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        grade = records.columns["grade"][rows]
        means = np.stack([features[grade == k].mean(axis=0) for k in range(5)])
        kernel = network.model.get_layer("grade").get_layer("cosines").get_weights()[0]
        # The feature bank stores float16.
        self.assertAllClose(kernel.T, means / np.linalg.norm(means, axis=1, keepdims=True), atol=2e-3)

    def test_it_is_finished_and_calibrated(self):
        self.assertFalse((self.run_dir / "history.csv").exists())
        decision = json.loads((self.run_dir / "decision.json").read_text())
        self.assertEqual(list(decision["modes"]), ["plain", "knn"])
        status, said, errors = commands.run(
            evaluate.main, "--run_dir", self.run_dir, "--records", tiny.records_root(), "--split", "validation",
            "--bootstrap_samples", 20,
        )  # fmt: skip
        self.assertEqual(status, 0, errors)
        self.assertIn("15 photographs", said)

    def test_training_it_again_says_that_it_is_finished(self):
        before = (self.run_dir / "model.keras").read_bytes()
        self.assertEqual(tiny.train_run(self.folder, CONFIG, tiny.records_root()), self.run_dir)
        self.assertEqual((self.run_dir / "model.keras").read_bytes(), before)


@pytest.mark.slow
class ModesOfFoldsTest(tf.test.TestCase):
    """Two outputs and neighbours: folds are scored in all modes, and a refit takes these scores."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tiny.temporary_folder()
        config = CONFIG.replace("{'grade': @prototypes()}", "{'ordinal': @coral(), 'prototype': @prototypes()}")
        config += "classifier.hidden = (8,)\nclassifier.projection = 6\n"
        config = config.replace("epochs = 0", "epochs = 2").replace(
            "('knn',)", "('prototype', 'knn', 'plain+prototype')"
        )
        (folder / "config.gin").write_text(config)
        cls.run_dir, cls.root = folder / "run", tiny.records_root()
        cls.flags = ["--gin_file", folder / "config.gin", "--records", cls.root, "--run_dir", cls.run_dir]
        status, _, errors = commands.run(train.main, *cls.flags, "--folds", 2, "--refit")
        assert status == 0, errors

    def test_every_mode_is_evaluated_out_of_fold(self):
        for mode in ("plain", "prototype", "knn", "plain+prototype"):
            status, said, errors = commands.run(
                evaluate.main, "--run_dir", self.run_dir, "--records", self.root, "--split", "folds", "--mode", mode,
                "--bootstrap_samples", 20,
            )  # fmt: skip
            self.assertEqual(status, 0, errors)
            self.assertIn("45 photographs", said)

    def test_the_stored_scores_are_those_of_the_fold_s_network(self):
        records = open_records(self.root, tiny.DATASET)
        for fold in (0, 1):
            scored, _ = read_scored_rows(self.run_dir / f"fold-{fold}" / "held_out.npz")
            self.assertEqual(set(scored.scores), {"plain", "prototype", "knn"})
            network = KerasNetwork.load(self.run_dir / f"fold-{fold}" / "model.keras")
            outputs, _ = network(np.stack([records.image(row) for row in scored.rows]))
            self.assertAllClose(scored.scores["prototype"], outputs["prototype"], atol=1e-3)

    def test_the_refit_is_calibrated_in_every_mode(self):
        decision = json.loads((self.run_dir / "refit" / "decision.json").read_text())
        self.assertEqual(list(decision["modes"]), ["plain", "prototype", "knn", "plain+prototype"])
        self.assertEqual(decision["modes"]["knn"]["report"]["images"], 45)

    def test_other_modes_need_no_training(self):
        run_dir = tiny.temporary_folder() / "run"
        shutil.copytree(self.run_dir, run_dir)
        status, _, errors = commands.run(
            train.main,
            *self.flags,
            "--run_dir",
            run_dir,
            "--folds",
            2,
            "--refit",
            "--gin_param",
            "train.modes = ('knn_majority',)",
        )
        self.assertEqual(status, 0, errors)
        scored, _ = read_scored_rows(run_dir / "out_of_fold.npz")
        self.assertIn("knn_majority", scored.scores)
        decision = json.loads((run_dir / "refit" / "decision.json").read_text())
        self.assertEqual(list(decision["modes"]), ["plain", "knn_majority"])


if __name__ == "__main__":
    tf.test.main()
