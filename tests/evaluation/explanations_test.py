"""`evaluate.py --explain` on a network whose output depends on lesions alone, and the overlays of the report."""

import contextlib
import io
import json
import pathlib
import tempfile
import types
import unittest

import cv2
import keras
import numpy as np
import pytest

import evaluate
from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.evaluation.explanations import scorecard_lines
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.report.images import MistakeImages
from dr_tf.evaluation.report.page import report
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.modes import PLAIN
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.rule import Mode, Rule
from dr_tf.models.heads import HEADS
from dr_tf.models.network import KerasNetwork
from tests.data import sets
from tests.evaluation.synthetic_predictions import make_graded
from tests.explain import nets
from tests.explain.runs import write_run
from tests.explain.squares import (
    DATASET,
    SIZE,
    UNGRADED,
    green_counter,
    lesion_at,
    records,
    records_root,
    ungraded_root,
)


def blind():
    """Build a network without a feature map."""
    photograph = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.Flatten(name="features")(photograph)
    return keras.Model(photograph, {"grade": keras.layers.Dense(1, name="grade")(features)})


def eyes():
    """Build a network of pairs as records feed it, with the presence of each eye as two more inputs."""
    inner, there = nets.eyes(), [keras.Input((), name=f"{eye}_present", dtype="bool") for eye in ("left", "right")]
    inputs = dict(zip(("left", "right"), inner.inputs, strict=True)) | {tensor.name: tensor for tensor in there}
    return keras.Model(inputs, inner.output)


def rule_of(output):
    """Build the rule of a network with a single output of this name."""
    point = OperatingPoint(threshold=0.5, guaranteed=False, note="")
    mode = Mode(Calibration("binary"), (0.5, 0.5), {"referable": {"half": point}})
    return Rule({output: HEADS["binary"]()}, output, (0.5, 0.5), "uniform", "half", {PLAIN: mode})


class CommandTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        # The network predicts 0.88 for each lesion: nothing is referred, so that all lesions are missed.
        write_run(cls.root / "run", "binary", model=green_counter(), records=DATASET, threshold=0.99)
        write_run(cls.root / "blind", "binary", model=blind(), records=DATASET)

    def _run(self, *arguments, run="run"):
        printed = io.StringIO()
        fixed = ["--run_dir", self.root / run, "--records", records_root(), "--bootstrap_samples", 20]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            evaluate.main([str(argument) for argument in (*fixed, *arguments)])
        return printed.getvalue(), self.root / run / "evaluation" / f"{DATASET.replace('/', '-')}-test"

    def test_the_scorecard(self):
        printed, folder = self._run("--explain", "hires_cam", "grad_cam@green")
        for expected in ("synthetic only", "grad_cam@green", "random map", "local contrast", "deletion", "randomized"):
            self.assertIn(expected, printed)
        scorecard = json.loads((folder / "explanations.json").read_text())
        self.assertEqual(
            (scorecard["split"], scorecard["iou_threshold_split"], scorecard["split_examples"]),
            ("test", "validation", 12),
        )
        self.assertEqual(scorecard["photographs"], {"masks": 8, "positive": 8, "parameter_randomization": 12})
        self.assertEqual(scorecard["maps"]["hires_cam"]["lesions"]["any lesion"]["pointing"]["value"], 1)
        self.assertEqual(scorecard["layers"], {"hires_cam": "map", "grad_cam@green": "green"})
        page = (folder / "report.html").read_text()
        for expected in ("Class-activation maps: scorecard", "synthetic only", "independent of the network"):
            self.assertIn(expected, page)
        self.assertEqual(page.count("Class-activation map of"), 8)  # overlays are drawn even without --explain

    @pytest.mark.slow
    def test_records_without_grades(self):
        ungraded_root()
        arguments = ("--dataset", UNGRADED, "--audit", "off")
        printed, _ = self._run(*arguments, "--explain", "hires_cam", "occlusion")
        folder = self.root / "run" / "evaluation" / f"{UNGRADED.replace('/', '-')}-test"
        self.assertEqual(sorted(path.name for path in folder.iterdir()), ["explanations.json", "report.html"])
        self.assertIn(str(folder / "report.html"), printed)
        scorecard = json.loads((folder / "explanations.json").read_text())
        self.assertEqual((scorecard["split"], scorecard["split_examples"]), ("test", 8))
        self.assertEqual(
            (scorecard["iou_threshold_split"], scorecard["iou_threshold_overlap"]), ("train+validation", False)
        )
        for name in ("hires_cam", "occlusion"):
            drawn = scorecard["maps"][name]["lesions"]["drawn"]
            self.assertEqual((drawn["n"], drawn["pointing"]["value"], drawn["pointing"]["high"]), (8, 1, 1))
            self.assertAlmostEqual(drawn["pointing"]["low"], 8 / (8 + 1.96**2), places=3)  # Wilson
            for score in ("energy", "iou", "average_precision"):
                low, value, high = (drawn[score][key] for key in ("low", "value", "high"))
                self.assertTrue(0 < low <= value <= high, (score, low, value, high))
        self.assertIn("only maps are scored", " ".join((folder / "report.html").read_text().split()))
        printed, _ = self._run(*arguments, "--split", "train+validation", "--explain", "hires_cam")
        scorecard = json.loads(
            (folder.parent / f"{UNGRADED.replace('/', '-')}-train+validation" / "explanations.json").read_text()
        )
        self.assertEqual((scorecard["split_examples"], scorecard["iou_threshold_overlap"]), (4, True))

    def test_records_without_grades_are_refused_where_no_maps_are_scored(self):
        ungraded_root()
        for arguments, message in (
            ((), "determines whether a photograph is referable; with --explain, maps are scored without labels"),
            (("--split", "train+test", "--explain", "hires_cam"), "a test split is evaluated by itself"),
        ):
            with self.assertRaises(SystemExit) as caught:
                self._run("--dataset", UNGRADED, "--audit", "off", *arguments)
            self.assertIn(message, str(caught.exception))

    def test_a_scorecard_of_an_earlier_version_is_refused(self):
        folder = self.root / "earlier"
        folder.mkdir()
        (folder / "explanations.json").write_text('{"maps": {}}')
        with self.assertRaisesRegex(UserError, r"explanations\.json is of version 1.*; evaluate the run again"):
            scorecard_lines(folder)

    def test_user_errors_are_one_line(self):
        for arguments, expected in (
            (["scam"], "unknown method 'scam'; known: grad_cam,"),
            (["hires_cam@top"], "there is no layer 'top'; there are green, map"),
            (["hires_cam", "hires_cam@map"], "hires_cam and hires_cam@map are the same maps"),
        ):
            with self.subTest(expected), self.assertRaises(SystemExit) as caught:
                self._run("--explain", *arguments)
            self.assertIn(expected, str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))
        with self.assertRaises(SystemExit) as caught:
            self._run("--explain", "hires_cam", run="blind")
        self.assertIn("--explain: the network has no feature map", str(caught.exception))


class MistakeImagesTest(unittest.TestCase):
    def test_colour_lies_on_the_lesion_and_nowhere_else(self):
        names = ["p007", "p009"]  # with a square, and without
        row_of = {name: int(np.flatnonzero(records().columns["image_id"] == name)[0]) for name in names}
        images = MistakeImages(records(), row_of, KerasNetwork(green_counter()), rule_of("grade"))
        overlays = images.overlays(names)
        for name in names:
            photograph, reason = (cv2.imdecode(np.frombuffer(data, np.uint8), 1).astype(int)
                                  for data in (images.image(name), overlays[name]))  # fmt: skip
            changed = abs(photograph - reason).max(axis=-1)
            lesion = cv2.dilate(lesion_at(int(name[1:]))[..., 0], np.ones((17, 17), np.uint8)) > 0
            self.assertLess(changed[~lesion].max(initial=0), 12)
            self.assertEqual(changed[lesion].max(initial=0) > 50, name == "p007")

    def test_a_network_without_maps(self):
        self.assertEqual(
            MistakeImages(records(), {"p007": 0}, KerasNetwork(blind()), rule_of("grade")).overlays(["p007"]), {}
        )

    def test_eyes_of_a_pair_are_stacked(self):
        with tempfile.TemporaryDirectory() as folder:
            pairs = [sets.pair_fields(1, absent="right", size=2), sets.pair_fields(2, size=2)]
            sets.write_set(folder, {"test": pairs}, config="2-plain-q95", paired=True, size=2)
            records_of_pairs = open_records(folder, "drawn")
            row_of = {str(name): row for row, name in enumerate(records_of_pairs.columns["patient_id"])}
            images = MistakeImages(
                records_of_pairs, row_of, types.SimpleNamespace(model=eyes(), image_size=2), rule_of("it")
            )
            both = images.image("p001"), images.overlays(["p001"])["p001"]
            for picture in (cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in both):
                self.assertEqual(picture.shape, (4, 2, 3))
                self.assertLess(picture[2:].max(), 20)  # an absent eye is black


class ReportTest(unittest.TestCase):
    def test_missing_masks_and_positives_are_stated(self):
        map = {"lesions": {}, "deletion": None, "insertion": None, "parameter_randomization": {"head": 0.1}}
        scorecard = {
            "positive": "referable", "unit": "photograph", "masks": "", "split": "test", "iou_threshold_split": None,
            "iou_threshold_overlap": False,
            "split_examples": 3,
            "method": "", "photographs": {"masks": 0, "positive": 0, "parameter_randomization": 3},
            "maps": {"a <map>": map},
        }  # fmt: skip
        predictions = make_graded(30)
        metrics = measure(predictions, bootstrap_samples=10)
        page = report(predictions, metrics, explanations=scorecard)
        self.assertIn("no lesion masks", page)
        self.assertIn("predicts none of the photographs positive", page)
        self.assertIn("a &lt;map&gt;", page)
        self.assertNotIn("Class-activation maps: scorecard", report(predictions, metrics))


if __name__ == "__main__":
    unittest.main()
