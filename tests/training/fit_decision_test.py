"""What the end of training leaves for prediction, on a small run."""

import json

import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.data.images import Photographs
from dr_tf.data.records import open_records
from dr_tf.inference.fit_rule import OTHER_NETWORKS, UNKNOWN_PATIENTS, no_guarantee
from dr_tf.inference.run import load_run, read_neighbours
from dr_tf.models.heads import HEADS
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
        run = load_run(tiny.run_dir())
        network = run.network
        records = open_records(tiny.records_root(), tiny.DATASET)
        rows = records.rows("train")
        photographs = Photographs(records, image_size=network.image_size, cache="none")
        features = network(np.stack([photographs.read(row) for row in rows]))[1]
        neighbours = read_neighbours(tiny.run_dir(), run.rule.asked("knn"), run.network)
        _, nearest = neighbours.nearest(features, k=1)
        self.assertAllEqual(neighbours.ballots.argmax(axis=1), records.columns["grade"][rows])
        self.assertAllEqual(nearest[:, 0], np.arange(len(rows)))
        self.assertIsNone(read_neighbours(tiny.run_dir(), run.rule.asked("tta4"), run.network))

    def test_an_unknown_mode_is_named_before_training(self):
        with self.assertRaisesRegex(UserError, "unknown mode 'tta5'; known: plain"):
            Experiment(dataset="x", heads={"grade": HEADS["softmax"]()}, model=None, modes=("tta5",))

    def test_nothing_is_promised_where_patients_are_unknown_or_other_networks_answered(self):
        columns = {"patient_id": np.array(["a", "b"]), "patient_known": np.array([True, False])}
        for rows, by_others, expected in (
            ([0], False, ""),
            ([0, 1], False, UNKNOWN_PATIENTS),
            ([0], True, OTHER_NETWORKS),
            ([1], True, f"{UNKNOWN_PATIENTS}; {OTHER_NETWORKS}"),
        ):
            self.assertEqual(no_guarantee(columns, np.array(rows), by_others), expected)
        document = json.loads((tiny.run_dir() / "decision.json").read_text())
        self.assertEqual(document["no_guarantee"], UNKNOWN_PATIENTS)
