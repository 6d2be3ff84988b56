"""From the published trees of APTOS 2019 and Messidor-2 to external validation: train on one, test on the other."""

import json
import pathlib
import tempfile
import unittest

import pytest

import evaluate
from dr_tf.evaluation.predictions_csv import read_predictions
from tests import commands, tiny
from tests.tfrecords_builder.published_trees import MESSIDOR2, write_aptos, write_messidor2
from tests.tfrecords_builder.trees import photograph

CONFIG = tiny.CONFIG.replace(tiny.DATASET, "aptos/64-plain-q95") + "train.modes = ()\n"


@pytest.mark.slow
class AptosToMessidor2Test(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        write_aptos(cls.root / "aptos", each=6)
        write_messidor2(cls.root / "messidor2", first_seed=900)  # other images: the audit would leave out copies
        photograph.cache_clear()
        for layout in ("aptos", "messidor2"):
            tiny.build_records(layout, cls.root / layout, cls.root / "records")
        cls.run_dir = tiny.train_run(cls.root, CONFIG, cls.root / "records")

    def _evaluate(self, *arguments):
        flags = ["--run_dir", self.run_dir, "--records", self.root / "records", "--bootstrap_samples", 20, *arguments]
        return commands.run(evaluate.main, *flags)

    def test_external_validation(self):
        status, _, errors = self._evaluate()
        self.assertEqual(status, 0, errors)
        own = json.loads((self.run_dir / "evaluation" / "aptos-64-plain-q95-test" / "metrics.json").read_text())
        status, output, errors = self._evaluate("--dataset", "messidor2", "--split", "all")
        self.assertEqual(status, 0, errors)
        self.assertIn("external validation, nothing refitted", output)
        folder = self.run_dir / "evaluation" / "messidor2-64-plain-q95-all"
        metrics = json.loads((folder / "metrics.json").read_text())
        graded = {image_id for image_id, file, *_, gradable in MESSIDOR2 if file and gradable}
        self.assertEqual(set(read_predictions(folder / "predictions.csv").ids), graded)
        self.assertEqual(metrics["n"], len(graded))
        self.assertEqual(metrics["external"]["audit"], {"dataset": "aptos/64-plain-q95", "shared": 0})
        self.assertEqual(metrics["external"]["own_test"]["metrics"]["auroc"], own["auroc"])
        self.assertIn("aptos/64-plain-q95, test", (folder / "report.html").read_text())


if __name__ == "__main__":
    unittest.main()
