"""Both eyes of a patient and eight labels, from records to decisions and metrics."""

import contextlib
import csv
import dataclasses
import io
import json
import pathlib
import tempfile

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import evaluate
from dr_tf.cli import predict
from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.explain import __main__ as explain
from dr_tf.grades import ODIR_LABELS
from dr_tf.inference.case import Case, pairs
from dr_tf.inference.predictor import Predictor
from tests import tiny, tiny_pairs


def _quietly(main, *arguments):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        main([str(argument) for argument in arguments])
    return output.getvalue()


class PairsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_dir, cls.folder = tiny_pairs.run_dir(), tiny_pairs.photographs()
        cls.predictor = Predictor.from_run(cls.run_dir)
        cls.records = open_records(tiny_pairs.records_root(), tiny_pairs.DATASET)

    def _open(self):
        """A predictor without gate: at 64 pixels all images are out of focus."""
        rule = dataclasses.replace(self.predictor.rule, gradable_from=0.0, distance_limit=None)
        return Predictor(dataclasses.replace(self.predictor.run, rule=rule))

    def test_each_label_has_its_own_threshold_and_decision(self):
        document = json.loads((self.run_dir / "decision.json").read_text())
        self.assertEqual(document["heads"]["labels"]["name"], "multi_label")
        points = document["modes"]["plain"]["operating_points"]
        self.assertEqual(list(points), [f"odir_{letter}" for letter in ODIR_LABELS])
        self.assertGreater(len({of["youden"]["threshold"] for of in points.values()}), 1)
        (decision,) = self._open().decisions(pairs([self.folder / f"2_{eye}.jpg" for eye in ("left", "right")]))
        self.assertLen(decision.label_decisions, 8)
        self.assertEqual(decision.action, "refer" if decision.label_decisions["odir_D"].yes else "clear")
        for letter in ODIR_LABELS:
            answer = decision.label_decisions[f"odir_{letter}"]
            self.assertEqual(answer.probability, decision.probabilities[letter])
            self.assertEqual(answer.threshold, points[f"odir_{letter}"]["sensitivity_0.9"]["threshold"])

    def test_one_eye_may_be_absent(self):
        both, one = self._open().decisions(pairs(sorted(self.folder.glob("[45]_*.jpg"))))
        self.assertEqual((both.case, both.missing, list(both.images)), ("4", (), ["left", "right"]))
        self.assertEqual((one.case, one.missing, list(one.images)), ("5", ("right",), ["left"]))
        self.assertIn(one.action, ("refer", "clear"))

    def test_an_unreadable_image_of_one_eye_means_retake(self):
        case = Case("x", {"left": (self.folder / "4_left.jpg",), "right": (b"no photograph",)})
        decision = self._open().decide(case)
        self.assertEqual((decision.action, decision.gradable), ("retake", False))
        self.assertRegex(decision.reason, "^right eye: ")
        self.assertLen(decision.label_decisions, 8)  # by the left eye alone
        gated = self.predictor.decide(Case("x", {eye: (self.folder / f"4_{eye}.jpg",) for eye in ("left", "right")}))
        self.assertEqual(gated.reason, "left eye: out of focus; right eye: out of focus")

    def test_the_wrong_number_of_eyes_is_refused(self):
        with self.assertRaisesRegex(UserError, "takes both eyes of a patient; name the eye"):
            self.predictor.decide(self.folder / "4_left.jpg")
        for photographs in ({}, {"OD": (b"",)}, {"left": (b"",), "OS": (b"",)}, {"left": ()}):
            with self.assertRaisesRegex(UserError, "x: this model takes images of the eyes 'left' and 'right'"):
                self.predictor.decide(Case("x", photographs))
        single = Predictor.from_run(tiny.run_dir())
        with self.assertRaisesRegex(UserError, "takes one photograph, not both eyes"):
            single.decide(Case("x", {"left": (b"",), "right": (b"",)}))

    def test_a_folder_is_predicted_by_patient(self):
        output = _quietly(predict.main, "--run_dir", self.run_dir, "--format", "csv", self.folder)
        rows = list(csv.DictReader(output.splitlines()))
        self.assertLen(rows, tiny_pairs.PATIENTS)
        self.assertEqual({row["action"] for row in rows}, {"retake"})
        self.assertContainsSubset({"p(N)", "p(O)", "odir_D"}, rows[0])
        self.assertIn("no photograph of the right eye", _quietly(predict.main, "--run_dir", self.run_dir, self.folder))

    def test_a_folder_is_explained_by_patient(self):
        with tempfile.TemporaryDirectory() as output:
            some = [self.folder / name for name in ("4_left.jpg", "4_right.jpg", "5_left.jpg")]
            arguments = ["--run_dir", self.run_dir, "--output", output, "--layer", "stride_8", *some]
            _quietly(explain.main, *arguments)
            found = json.loads((pathlib.Path(output) / "explanations.json").read_text())
            self.assertEqual([of["case"] for of in found["cases"]], ["4", "5"])
            self.assertEqual([len(of["images"]) for of in found["cases"]], [2, 1])
            both, one = (cv2.imread(f"{output}/{name}.explained.jpg") for name in (4, 5))
            self.assertEqual(both.shape[1], 3 * 480)  # the eyes stand one above the other
            self.assertGreater(both.shape[0], 1.5 * one.shape[0] * both.shape[1] / one.shape[1] - 200)
            self.assertIn("4.explained.jpg", (pathlib.Path(output) / "explanations.html").read_text())

    @pytest.mark.slow
    def test_evaluation_equals_prediction(self):
        for mode in ("plain", "tta2", "knn"):
            arguments = ["--run_dir", self.run_dir, "--records", tiny_pairs.records_root(), "--bootstrap_samples", 20]
            _quietly(evaluate.main, *arguments, "--split", "validation", "--mode", mode)
            folder = (
                self.run_dir
                / "evaluation"
                / f"odir-64-plain-q95-paired-validation{'' if mode == 'plain' else f'-{mode}'}"
            )
            found = read_predictions(folder / "predictions.csv")
            paths = [path for name in found.ids for path in sorted(self.folder.glob(f"{name}_*.jpg"))]
            decisions = list(Predictor.from_run(self.run_dir, mode).decisions(pairs(paths)))
            self.assertEqual([d.case for d in decisions], found.ids.tolist())
            self.assertEqual([d.action for d in decisions], found.action.tolist())
            self.assertEqual([d.reason for d in decisions], found.reason.tolist())
            self.assertAllClose([list(d.probabilities.values()) for d in decisions], found.probabilities, atol=1e-5)
            self.assertAllEqual([[a.yes for a in d.label_decisions.values()] for d in decisions], found.predicted)
            self.assertAllClose([d.distance for d in decisions], found.distance, rtol=1e-4)
        metrics = json.loads((folder / "metrics.json").read_text())
        self.assertContainsSubset({"f1_macro", "odir_score", "auroc/D", "sensitivity_deployed"}, metrics)
        self.assertIn("ODIR score", (folder / "report.html").read_text())

    def test_the_model_opens_in_plain_keras_and_an_absent_eye_has_no_say(self):
        model = keras.saving.load_model(self.run_dir / "model.keras", safe_mode=True)
        row = int(np.flatnonzero(~self.records.present("right"))[0])
        left = self.records.image(row, "left")[None]
        answers = [
            model({"left": left, "right": right, "left_present": np.array([True]), "right_present": np.array([False])})
            for right in (np.zeros_like(left), np.full_like(left, 200))
        ]
        self.assertAllEqual(*(of["labels"] for of in answers))

    def test_a_model_of_single_images_is_refused_on_pairs(self):
        import train

        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "c.gin").write_text(tiny_pairs.CONFIG.replace("paired_classifier", "classifier"))
            arguments = [
                "--gin_file",
                f"{folder}/c.gin",
                "--records",
                tiny_pairs.records_root(),
                "--run_dir",
                f"{folder}/run",
            ]
            with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(io.StringIO()):
                train.main([str(argument) for argument in arguments])
            self.assertRegex(str(caught.exception), "the model takes one image, .* holds pairs of images")


if __name__ == "__main__":
    tf.test.main()
