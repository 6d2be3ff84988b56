"""Calibration at the end of training, on a small run."""

import json

import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import open_records
from dr_tf.inference.fit_rule import OTHER_NETWORKS, UNKNOWN_PATIENTS, reason_for_no_guarantee
from dr_tf.inference.run import load_run, read_neighbours
from dr_tf.models.heads import HEADS
from dr_tf.training.experiment import Experiment
from tests import tiny


class FitDecisionTest(tf.test.TestCase):
    def test_every_mode_has_its_own_fit_and_one_prior(self):
        document = json.loads((tiny.run_dir() / "decision.json").read_text())
        self.assertEqual(list(document["modes"]), ["plain", "tta4", "knn", "knn_majority"])
        slopes = {tuple(mode["calibration"]["slope"]) for mode in document["modes"].values()}
        self.assertLen(slopes, 4)
        self.assertEqual(document["prior"]["name"], "train")

    def test_the_neighbours_are_the_training_images(self):
        run = load_run(tiny.run_dir())
        network = run.network
        records = open_records(tiny.records_root(), tiny.DATASET)
        rows = records.rows("train")
        images = ImageLoader(records, image_size=network.image_size, cache="none")
        features = network(np.stack([images.read(row) for row in rows]))[1]
        neighbours = read_neighbours(tiny.run_dir(), run.rule.requested_modes("knn"), run.network)
        _, nearest = neighbours.nearest(features, k=1)
        self.assertAllEqual(neighbours.one_hot_labels.argmax(axis=1), records.columns["grade"][rows])
        self.assertAllEqual(nearest[:, 0], np.arange(len(rows)))
        self.assertIsNone(read_neighbours(tiny.run_dir(), run.rule.requested_modes("tta4"), run.network))

    def test_an_unknown_mode_is_refused_before_training(self):
        with self.assertRaisesRegex(UserError, "unknown mode 'tta5'; known: plain"):
            Experiment(dataset="x", heads={"grade": HEADS["softmax"]()}, model=None, modes=("tta5",))

    def test_no_guarantee_with_unknown_patients_or_scores_of_other_networks(self):
        columns = {"patient_id": np.array(["a", "b"]), "patient_known": np.array([True, False])}
        for rows, other_networks, expected in (
            ([0], False, ""),
            ([0, 1], False, UNKNOWN_PATIENTS),
            ([0], True, OTHER_NETWORKS),
            ([1], True, f"{UNKNOWN_PATIENTS}; {OTHER_NETWORKS}"),
        ):
            self.assertEqual(reason_for_no_guarantee(columns, np.array(rows), other_networks), expected)
        document = json.loads((tiny.run_dir() / "decision.json").read_text())
        self.assertEqual(document["no_guarantee"], UNKNOWN_PATIENTS)
