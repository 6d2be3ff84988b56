"""What the end of training leaves for prediction, on a small run."""

import json

import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.data.photographs import Photographs
from dr_tf.data.records import open_records
from dr_tf.inference.run import load_run, read_bank
from dr_tf.training.experiment import Experiment
from tests import tiny


class DecidingTest(tf.test.TestCase):
    def test_every_mode_has_its_own_fit_and_one_prior(self):
        document = json.loads((tiny.run_dir() / "decision.json").read_text())
        self.assertEqual(list(document["modes"]), ["plain", "tta4", "knn", "knn_majority"])
        slopes = {tuple(mode["calibration"]["slope"]) for mode in document["modes"].values()}
        self.assertLen(slopes, 4)
        self.assertEqual(document["prior"]["name"], "train")

    def test_the_bank_holds_the_fitted_photographs(self):
        network, *_ = load_run(tiny.run_dir())
        records = open_records(tiny.records_root(), tiny.DATASET)
        rows = records.rows("train")
        photographs = Photographs(records, image_size=network.image_size, cache="none")
        features = network(np.stack([photographs.read(row) for row in rows]))[1]
        bank = read_bank(tiny.run_dir(), ("plain", "knn"))
        _, nearest = bank.nearest(features, k=1)
        self.assertAllEqual(bank.ballots.argmax(axis=1), records.columns["grade"][rows])
        self.assertAllEqual(nearest[:, 0], np.arange(len(rows)))
        self.assertIsNone(read_bank(tiny.run_dir(), ("plain", "tta4")))

    def test_an_unknown_mode_is_named_before_training(self):
        with self.assertRaisesRegex(UserError, "unknown mode 'tta5'; known: plain"):
            Experiment(dataset="x", head=None, model=None, modes=("tta5",))
