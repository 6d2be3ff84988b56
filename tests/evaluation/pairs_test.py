"""`evaluate.py` on pairs of eyes, some with one eye absent: the scorecard of class-activation maps, and subgroups."""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import keras
import pytest

import evaluate
from dr_tf.data.records import open_records
from dr_tf.explain.scorecard.masks import read_masks
from dr_tf.explain.scorecard.scoring_data import ANY_LESION
from dr_tf.models.backbones import build_backbone
from dr_tf.models.heads import HEADS
from dr_tf.models.paired import paired_classifier
from tests.data import sets
from tests.explain.runs import OUTPUT, SIZE, write_run
from tests.tfrecords_builder.trees import run_builder

DATASET = f"one_eyed/{SIZE}-plain-q95-paired"
PATIENTS = 6


def _build(root, *flags):
    """The photograph that is emptied between two builds is of an eye that its patient then lacks."""
    sizes = ["--image_size", SIZE, "--side", 96, "--patients", PATIENTS, "--grade_shares", "1,0,1,0,1"]
    folders = ["--source", root / "photographs", "--records", root / "records"]
    status, *output = run_builder("synthetic", *folders, *sizes, "--paired", "--audit", "off", "--workers", 1, *flags)
    assert status == 0, output


def _network():
    keras.utils.set_random_seed(0)
    backbone = build_backbone("resnet_v2", image_size=SIZE, stem=4, filters=(4, 8))
    return paired_classifier(backbone, {OUTPUT: HEADS["binary"]()})


@pytest.mark.slow
class ScorecardTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        _build(root)
        (root / "photographs/images/00003_right.jpg").write_bytes(b"")
        _build(root, "--name", "one_eyed")
        write_run(root / "run", "binary", model=_network(), records=DATASET)
        cls.records, printed = open_records(root / "records", DATASET), io.StringIO()
        arguments = [
            "--run_dir",
            root / "run",
            "--records",
            root / "records",
            "--split",
            "train",
            "--bootstrap_samples",
            20,
        ]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            evaluate.main([str(argument) for argument in (*arguments, "--explain", "grad_cam", "hires_cam@stride_8")])
        folder = root / "run/evaluation" / f"{DATASET.replace('/', '-')}-train"
        cls.printed, cls.page = printed.getvalue(), (folder / "report.html").read_text()
        cls.scorecard = json.loads((folder / "explanations.json").read_text())
        cls.rows = cls.records.rows("train")

    def test_an_eye_is_absent(self):
        self.assertEqual((~self.records.present("right")[self.rows]).sum(), 1)

    def test_the_scorecard(self):
        masked = read_masks(self.records, self.rows)
        graded = [(row, eye) for row, eye in masked if self.records.columns[f"{eye}/grade"][row] >= 2]
        self.assertGreater(len({row for row, _ in graded}), 1)
        self.assertEqual({eye for _, eye in graded}, {"left", "right"})
        counted = self.scorecard["photographs"]
        self.assertEqual((counted["masks"], counted["parameter_randomization"]), (len(graded), len(self.rows)))
        self.assertEqual(
            list(self.scorecard["maps"]), ["grad_cam", "hires_cam@stride_8", "random map", "local contrast"]
        )
        for of in self.scorecard["maps"].values():
            self.assertEqual(of["lesions"][ANY_LESION]["n"], len(graded))
            self.assertIn("head", of["parameter_randomization"])
        self.assertIn("Class-activation maps of referable", self.printed)
        self.assertIn("Localization is scored for each eye", self.page)
        self.assertIn(f"{len(self.rows)} patients.", self.page)


class SubgroupsTest(unittest.TestCase):
    """A patient is one example of a subgroup: by what both eyes have in common, and by the less gradable eye."""

    def _pair(self, number):
        """Of three patients one has eyes of two cameras; number 1 lacks the right eye, which was the better one."""
        absent, several = "right" if number == 1 else None, number % 3 == 2
        pair = sets.pair_fields(number, absent=absent, size=SIZE)
        for eye, camera, score in (("left", "A", 0.6), ("right", "B" if several else "A", 0.8 if number < 6 else 0.3)):
            of = {"camera": camera, "source": f"clinic {number % 2}", "grade": 2 * (number % 2)}
            pair[eye] |= of | {"gradability": pair[eye]["gradability"] | {"score": score}} if eye != absent else {}
        return pair

    def test_metrics_and_report(self):
        root = pathlib.Path(sets.scratch(self))
        config = f"{SIZE}-plain-q95-paired"
        sets.write_set(root, {"test": [self._pair(i) for i in range(12)]}, config=config, paired=True, size=SIZE)
        write_run(root / "run", "binary", model=_network(), records=f"drawn/{config}")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            evaluate.main(["--run_dir", f"{root}/run", "--records", str(root), "--bootstrap_samples", "20"])
        folder = root / "run/evaluation" / f"drawn-{config}-test"
        metrics, page = ((folder / name).read_text() for name in ("metrics.json", "report.html"))
        found = {(part["subgroup"], part["value"]): part["n"] for part in json.loads(metrics)["subgroups"]}
        expected = {
            ("camera", "A"): 8, ("camera", "several"): 4, ("source", "clinic 0"): 6, ("source", "clinic 1"): 6,
            ("gradability", "0.25 to 0.5"): 6, ("gradability", "0.5 to 0.75"): 6,
        }  # fmt: skip
        self.assertEqual(
            {key: n for key, n in found.items() if key[0] in ("camera", "source", "gradability")}, expected
        )
        for _, value in expected:
            self.assertIn(value, page)


if __name__ == "__main__":
    unittest.main()
