"""`evaluate.py --explain`, on a network that is known to look at lesions and nothing else, and overlays in the report."""

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

import evaluate
from dr_tf.data.records import open_records
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
from tests.explain.squares import DATASET, SIZE, green_counter, lesion_at, records, records_root


def blind():
    """A network without any map of places."""
    photograph = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.Flatten(name="features")(photograph)
    return keras.Model(photograph, {"grade": keras.layers.Dense(1, name="grade")(features)})


def eyes():
    """As records of pairs feed it: with two more inputs, which say who is there."""
    inner, there = nets.eyes(), [keras.Input((), name=f"{eye}_present", dtype="bool") for eye in ("left", "right")]
    inputs = dict(zip(("left", "right"), inner.inputs, strict=True)) | {tensor.name: tensor for tensor in there}
    return keras.Model(inputs, inner.output)


def rule_of(output):
    """Of a network whose one output is called that."""
    point = OperatingPoint(threshold=0.5, guaranteed=False, note="")
    mode = Mode(Calibration("binary"), (0.5, 0.5), {"referable": {"half": point}})
    return Rule({output: HEADS["binary"]()}, output, (0.5, 0.5), "uniform", "half", {PLAIN: mode})


class CommandTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        # No photograph is referred, so that all lesions are mistakes: the network says 0.88 of each.
        write_run(cls.root / "run", "binary", model=green_counter(), records=DATASET, threshold=0.99)
        write_run(cls.root / "blind", "binary", model=blind(), records=DATASET)

    def _run(self, *arguments, run="run"):
        told = io.StringIO()
        fixed = ["--run_dir", self.root / run, "--records", records_root(), "--bootstrap_samples", 20]
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(io.StringIO()):
            evaluate.main([str(argument) for argument in (*fixed, *arguments)])
        return told.getvalue(), self.root / run / "evaluation" / f"{DATASET.replace('/', '-')}-test"

    def test_the_scorecard(self):
        told, folder = self._run("--explain", "hires_cam", "grad_cam@green")
        for said in ("synthetic only", "grad_cam@green", "random map", "local contrast", "deletion", "randomized"):
            self.assertIn(said, told)
        figures = json.loads((folder / "explanations.json").read_text())
        self.assertEqual(
            (figures["split"], figures["iou_threshold_split"], figures["split_examples"]), ("test", "validation", 12)
        )
        self.assertEqual(figures["photographs"], {"masks": 8, "positive": 8, "parameter_randomization": 12})
        self.assertEqual(figures["maps"]["hires_cam"]["lesions"]["any lesion"]["pointing"]["value"], 1)
        self.assertEqual(figures["layers"], {"hires_cam": "map", "grad_cam@green": "green"})
        page = (folder / "report.html").read_text()
        for said in ("Class-activation maps: scorecard", "synthetic only", "independent of the network"):
            self.assertIn(said, page)
        self.assertEqual(page.count("Class-activation map of"), 8)  # the overlays, for which nobody has to ask

    def test_mistakes_in_one_line(self):
        for arguments, said in (
            (["scam"], "unknown method 'scam'; known: grad_cam,"),
            (["hires_cam@top"], "there is no layer 'top'; there are green, map"),
            (["hires_cam", "hires_cam@map"], "hires_cam and hires_cam@map are the same maps"),
        ):
            with self.subTest(said), self.assertRaises(SystemExit) as caught:
                self._run("--explain", *arguments)
            self.assertIn(said, str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))
        with self.assertRaises(SystemExit) as caught:
            self._run("--explain", "hires_cam", run="blind")
        self.assertIn("--explain: the network has no feature map", str(caught.exception))


class ShownTest(unittest.TestCase):
    def test_colour_lies_on_the_lesion_and_nowhere_else(self):
        names = ["p007", "p009"]  # with a square, and without
        row_of = {name: int(np.flatnonzero(records().columns["image_id"] == name)[0]) for name in names}
        shown = MistakeImages(records(), row_of, KerasNetwork(green_counter()), rule_of("grade"))
        overlays = shown.overlays(names)
        for name in names:
            photograph, reason = (cv2.imdecode(np.frombuffer(data, np.uint8), 1).astype(int)
                                  for data in (shown.image(name), overlays[name]))  # fmt: skip
            changed = abs(photograph - reason).max(axis=-1)
            lesion = cv2.dilate(lesion_at(int(name[1:]))[..., 0], np.ones((17, 17), np.uint8)) > 0
            self.assertLess(changed[~lesion].max(initial=0), 12)
            self.assertEqual(changed[lesion].max(initial=0) > 50, name == "p007")

    def test_a_network_without_maps(self):
        self.assertEqual(
            MistakeImages(records(), {"p007": 0}, KerasNetwork(blind()), rule_of("grade")).overlays(["p007"]), {}
        )

    def test_eyes_of_a_pair_stand_one_above_the_other(self):
        with tempfile.TemporaryDirectory() as folder:
            pairs = [sets.pair_fields(1, absent="right", size=2), sets.pair_fields(2, size=2)]
            sets.write_set(folder, {"test": pairs}, config="2-plain-q95", paired=True, size=2)
            found = open_records(folder, "drawn")
            row_of = {str(name): row for row, name in enumerate(found.columns["patient_id"])}
            shown = MistakeImages(found, row_of, types.SimpleNamespace(model=eyes(), image_size=2), rule_of("it"))
            both = shown.image("p001"), shown.overlays(["p001"])["p001"]
            for picture in (cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in both):
                self.assertEqual(picture.shape, (4, 2, 3))
                self.assertLess(picture[2:].max(), 20)  # an absent eye is black


class ReportTest(unittest.TestCase):
    def test_what_cannot_be_said_is_said(self):
        map = {"lesions": {}, "deletion": None, "insertion": None, "parameter_randomization": {"head": 0.1}}
        scorecard = {
            "positive": "referable", "unit": "photograph", "masks": "", "split": "test", "iou_threshold_split": None, "split_examples": 3,
            "method": "", "photographs": {"masks": 0, "positive": 0, "parameter_randomization": 3}, "maps": {"a <map>": map},
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
