"""Ensembles of networks, and the command that builds an ensemble run."""

import contextlib
import dataclasses
import io
import pathlib
import shutil
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.cli import ensemble
from dr_tf.data.records import open_records
from dr_tf.explain.colour_scale import stretch_maps
from dr_tf.explain.explainer import Explainer
from dr_tf.inference.gate import EnsembleFeatureDistribution, FeatureDistribution, from_arrays, to_arrays
from dr_tf.inference.modes import RequestedModes, score_batches
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.run import load_run
from dr_tf.models.classifier import FEATURES
from dr_tf.models.ensemble import build_ensemble
from dr_tf.models.heads.binary import Binary
from dr_tf.models.heads.edema import Edema
from dr_tf.models.links import LINKS, probabilities_to_scores
from dr_tf.models.network import KerasNetwork
from dr_tf.training.example_names import example_names
from tests import tiny
from tests.explain import nets
from tests.inference import heads


class MeansTest(tf.test.TestCase):
    def test_averaged_logits_decode_to_the_mean_of_the_probabilities(self):
        rng = np.random.default_rng(0)
        for head in (heads.Softmax(), heads.Coral(), heads.Corn(), heads.Binary(), heads.MultiLabel()):
            logits = rng.normal(0, 2, (6, 3, head.outputs)).astype(np.float32)
            if head.name == "coral":  # otherwise its class probabilities are negative
                logits = -np.sort(-logits, axis=2)
            mean = np.mean([head.probabilities(logits[:, member]) for member in range(3)], axis=0)
            result = LINKS[head.link].member_mean(keras.ops.convert_to_tensor(logits)).numpy()
            with self.subTest(head.name):
                self.assertAllClose(head.probabilities(result), mean, atol=1e-6)
                self.assertAllClose(result, probabilities_to_scores(head.link, mean, minimum=1e-12), atol=1e-3)

    def test_near_certain_predictions_keep_their_rank(self):
        result = (
            LINKS["binary"].member_mean(keras.ops.convert_to_tensor([[[-40.0], [-41.0]], [[-42.0], [-43.0]]])).numpy()
        )
        self.assertAllClose(result[0] - result[1], [2.0], atol=1e-4)


HEADS = {"eye": Binary(), "edema": Edema()}


def linear(weights=nets.WEIGHTS, side=2):
    """eye: the sum of weights * map; edema: three logits of the same features."""
    photograph = keras.Input((side, side, 3))
    features = keras.layers.Flatten()(nets.red_and_green()(photograph))
    features = keras.layers.Identity(name=FEATURES)(features)
    eye = keras.layers.Dense(1, use_bias=False, name="eye")
    model = keras.Model(photograph, {"eye": eye(features), "edema": keras.layers.Dense(3, name="edema")(features)})
    if side == 2:
        eye.set_weights([np.reshape(weights, (8, 1))])
    return model


class CombinedTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.models = [linear(), linear(-2 * nets.WEIGHTS)]
        self.model, self.x = build_ensemble(self.models, HEADS), nets.images()

    def test_every_output_is_averaged_and_members_are_available(self):
        network = KerasNetwork(self.model)
        apart = [model(self.x) for model in self.models]
        for decides, head in HEADS.items():
            requested = RequestedModes.from_names(("plain",), HEADS, decides, ensemble=True)
            result = score_batches(network, requested, [(self.x,)])
            each = [head.probabilities(outputs[decides].numpy()) for outputs in apart]
            with self.subTest(decides):
                self.assertAllClose(head.probabilities(result.outputs[decides]), np.mean(each, axis=0), atol=1e-6)
                self.assertAllClose(result.member_probabilities, each, atol=1e-6)
                self.assertAllClose(result.scores["plain"], result.outputs[decides], atol=1e-6)
                self.assertEqual(result.features.shape, (1, 16))

    def test_the_model_loads_in_keras_without_dr_tf(self):
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(f"{folder}/model.keras")
            again = keras.saving.load_model(f"{folder}/model.keras", safe_mode=True)
        self.assertAllClose(KerasNetwork(again)(self.x), KerasNetwork(self.model)(self.x))

    def test_images_are_downsized_for_a_member_of_smaller_image_size(self):
        network = KerasNetwork(build_ensemble([self.models[0], linear(side=4)], HEADS))
        large = np.broadcast_to(self.x[:, :1, :1], (1, 4, 4, 3))
        self.assertEqual(network.image_size, 4)
        first = network.members(network(large)[1])["eye"][0]
        self.assertAllClose(first, self.models[0](large[:, :2, :2])["eye"], atol=1e-4)

    def test_activation_maps_are_a_weighted_mean_of_the_members_maps(self):
        """The weight is the derivative of the ensemble's logit by the member's logit."""
        explanation = Explainer(self.model, Binary(), output="eye", method="hires_cam")(self.x)
        p = np.array([1 / (1 + np.exp(-model(self.x)["eye"].numpy()[:, 0])) for model in self.models])
        slopes = p * (1 - p) / 2 / (p.mean(axis=0) * (1 - p.mean(axis=0)))
        evidence = [(weights * nets.MAP).sum(axis=-1) for weights in (nets.WEIGHTS, -2 * nets.WEIGHTS)]
        maps = [np.maximum(slope * of, 0) for slope, of in zip(slopes, evidence, strict=True)]
        expected = np.mean(maps, axis=0)
        self.assertAllClose(stretch_maps(explanation.maps), [expected / expected.max()], atol=1e-4)


class FeatureDistributionTest(tf.test.TestCase):
    def test_squared_distances_add_up_and_arrays_round_trip(self):
        plane = FeatureDistribution(np.zeros(2), np.array([[1.0], [0.0]]), np.array([1.0]), np.array(1.0))
        line = FeatureDistribution(np.ones(1), np.zeros((1, 0)), np.zeros(0), np.array(2.0))
        distributions = EnsembleFeatureDistribution((plane, line))
        for one in (distributions, from_arrays(to_arrays(distributions))):
            self.assertAllClose(one.distance([[3.0, 4.0, 25.0]]), [13.0])
        alone = from_arrays(to_arrays(distributions.parts[0]))
        self.assertAllClose(alone.distance([[3.0, 4.0]]), [5.0])


@pytest.mark.slow
class CommandTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.other = cls.folder / "other"
        shutil.copytree(tiny.run_dir(), cls.other, ignore=shutil.ignore_patterns("checkpoints", "evaluation"))
        model = keras.saving.load_model(cls.other / "model.keras")
        last = model.get_layer("grade")
        last.set_weights([weights[..., ::-1] for weights in last.get_weights()])
        model.save(cls.other / "model.keras")
        cls._make(cls.folder / "made", tiny.run_dir(), cls.other)

    @staticmethod
    def _make(made, *runs, more=()):
        arguments = ["--records", tiny.records_root(), "--run_dir", made, "--run_dirs", *runs, *more]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ensemble.main([str(argument) for argument in arguments])

    def _refused(self, expected, *runs, **options):
        with self.assertRaises(SystemExit) as caught:
            self._make(self.folder / "refused", *runs, **options)
        self.assertIn(expected, str(caught.exception))

    def test_an_ensemble_run_predicts_the_mean_of_its_members(self):
        records = open_records(tiny.records_root(), tiny.DATASET)
        x = np.stack([records.image(row) for row in records.rows("test")])
        made, members = load_run(self.folder / "made"), [load_run(run) for run in (tiny.run_dir(), self.other)]
        head = made.rule.head
        mean = np.mean([head.probabilities(member.network(x)[0]["grade"]) for member in members], axis=0)
        self.assertAllClose(head.probabilities(made.network(x)[0]["grade"]), mean, atol=1e-5)
        self.assertLen(made.feature_distribution.parts, 2)
        rule = dataclasses.replace(made.rule, gradable_from=0.0, distance_limit=None)
        decision = Predictor(dataclasses.replace(made, rule=rule)).decide(tiny.photographs()[0])
        self.assertEqual(list(rule.modes), ["plain", "tta4", "knn", "knn_majority"])
        self.assertIsNotNone(decision.p_positive)

    def test_user_errors_are_one_line(self):
        fold = self.folder / "fold-0"
        shutil.copytree(self.other, fold)
        calibration = dict(np.load(fold / "calibration.npz"))
        seen = example_names(open_records(tiny.records_root(), tiny.DATASET), calibration["rows"][-1:])
        np.savez(fold / "calibration.npz", **calibration | {"fitted_names": seen})
        old = self.folder / "old"
        shutil.copytree(self.other, old)
        np.savez(old / "calibration.npz", **{name: of for name, of in calibration.items() if name != "fitted_names"})
        self._refused("two different runs or more", self.other, self.other)
        self._refused("was trained on images of the calibration split", self.other, fold)
        self._refused("does not list the images it was trained on (calibration.npz): train it again", self.other, old)
        self._refused("made is an ensemble itself: name its members", self.folder / "made", self.other)
        self._refused("is no finished run", self.other, self.folder)
        self._refused("unknown mode 'tta5'", self.other, tiny.run_dir(), more=["--modes", "tta5"])
