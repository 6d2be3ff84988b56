"""CORAL, CORN and regression from the command line: train, predict, explain, average, and open the model without dr_tf."""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from dr_tf.data.records import open_records
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.scorecard.parameter_randomization import randomize_parameters
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.run import load_run
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.ensemble import build_ensemble
from dr_tf.models.heads import HEADS
from dr_tf.models.network import member_networks
from dr_tf.training.train import load_weights
from tests import tiny

SETTINGS = {
    "coral": "coral.importance_weights = (1, 1, 2, 2)\ncoral.label_smoothing = 0.1",
    "corn": "corn.positive = 'any_dr'",
    "regression": "regression.huber_delta = 1.0",
}
# Opens a model where this project cannot be imported, and writes its output for stored images.
IN_PLAIN_KERAS = """
import sys, keras, numpy as np
sys.modules["dr_tf"] = None
model = keras.saving.load_model("model.keras", safe_mode=True)
np.save("logits.npy", model.predict(np.load("images.npy"), verbose=0)["grade"])
"""


def train(folder, head, modes=()):
    """Train a head on the tiny records for one epoch; return the run."""
    config = f"{tiny.CONFIG.replace('@softmax', f'@{head}')}train.modes = {modes}\n{SETTINGS[head]}\n"
    return tiny.train_run(folder, config, tiny.records_root())


def images_of_the_test_split():
    records = open_records(tiny.records_root(), tiny.DATASET)
    return np.stack([records.image(row) for row in records.rows("test")])


@pytest.mark.slow
class CoralRunTest(tf.test.TestCase):
    heads: tuple[str, ...] = ("coral",)
    modes: tuple[str, ...] = ()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.runs = {head: train(tiny.temporary_folder(), head, cls.modes) for head in cls.heads}

    def test_the_decision_has_the_head_and_its_link(self):
        for name, run_dir in self.runs.items():
            document = json.loads((run_dir / "decision.json").read_text())
            rule = load_run(run_dir).rule
            with self.subTest(name):
                self.assertEqual(rule.head, HEADS[name](**document["heads"]["grade"]["config"]))
                self.assertEqual(rule.mode("plain").calibration.link, name)
                self.assertEqual(list(rule.modes), ["plain", *self.modes])

    def test_prediction_in_every_mode(self):
        photograph = tiny.photographs()[0]
        for name, run_dir in self.runs.items():
            for mode in ("plain", *self.modes):
                decision = Predictor.from_run(run_dir, mode=mode).decide(photograph)
                with self.subTest(f"{name}, {mode}"):
                    values = list(decision.probabilities.values())
                    self.assertAllClose(sum(values), 1)
                    self.assertAllInRange(values, 0, 1)
                    self.assertIn(decision.grade, range(5) if decision.gradable else [None])

    def test_the_model_opens_without_this_project(self):
        images = images_of_the_test_split()
        for name, run_dir in self.runs.items():
            with tempfile.TemporaryDirectory() as folder, self.subTest(name):
                np.save(f"{folder}/images.npy", images)
                (pathlib.Path(folder) / "model.keras").write_bytes((run_dir / "model.keras").read_bytes())
                command = [sys.executable, "-P", "-c", IN_PLAIN_KERAS]
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
                logits = load_run(run_dir).network(images)[0]["grade"]
                self.assertAllClose(np.load(f"{folder}/logits.npy"), logits, atol=1e-5)

    def test_explanation_of_every_target(self):
        images = images_of_the_test_split()[:1]
        for name, run_dir in self.runs.items():
            run = load_run(run_dir)
            explainer = Explainer(run.network.model, run.rule.head)
            p = run.rule.head.probabilities(run.network(images)[0]["grade"])[0]
            for target in explainer.targets:
                found = explainer(images, target)
                with self.subTest(f"{name}, {target}"):
                    self.assertTrue(np.isfinite(found.maps).all())
            self.assertAllClose([found.probabilities[grade][0] for grade in run.rule.head.classes], p, atol=1e-5)
            self.assertAllClose(found.probabilities["grade >= 2"][0], p[2:].sum(), atol=1e-5)

    def test_the_head_is_randomized_first(self):
        for name, run_dir in self.runs.items():
            model = load_run(run_dir).network.model
            before = model.get_layer("grade").get_weights()
            part, copy = next(randomize_parameters(model))
            after = copy.get_layer("grade").get_weights()
            with self.subTest(name):
                self.assertEqual(part, "head")
                self.assertNotAllClose(before[0], after[0])
                self.assertAllClose(np.sort(before[0].ravel()), np.sort(after[0].ravel()))

    def test_a_second_run_starts_with_the_weights_of_the_head(self):
        for name, run_dir in self.runs.items():
            model = load_run(run_dir).network.model
            trained = model.get_weights()
            model.set_weights([np.zeros_like(weights) for weights in trained])
            load_weights(model, run_dir)
            with self.subTest(name):
                self.assertAllClose(model.get_weights(), trained)


@pytest.mark.slow
class AllRunsTest(CoralRunTest):
    heads = tuple(SETTINGS)
    modes = ("tta4", "knn")


class EnsembleTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_probabilities_are_the_mean_of_the_members(self):
        """For a regression: the predicted grade is."""
        images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        backbone = {"image_size": 32, "stem": 4, "filters": (4,)}
        for name in SETTINGS:
            head = HEADS[name]()
            members = [classifier(build_backbone("resnet_v2", **backbone), {"grade": head}) for _ in range(2)]
            model = build_ensemble(members, {"grade": head})
            decode = head.probabilities if name != "regression" else np.asarray
            mean = np.mean([decode(member(images)["grade"]) for member in members], axis=0)
            with self.subTest(name):
                self.assertLen(member_networks(model), 2)
                self.assertAllClose(decode(model(images)["grade"]), mean, atol=1e-5)
                self.assertTrue(np.isfinite(Explainer(model, head)(images).maps).all())


if __name__ == "__main__":
    tf.test.main()
