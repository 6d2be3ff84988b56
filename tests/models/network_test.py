"""`KerasNetwork` and the classifiers, of one image and of both eyes."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import FEATURES, classifier
from dr_tf.models.heads.edema import Edema
from dr_tf.models.heads.multi_label import MultiLabel
from dr_tf.models.heads.softmax import Softmax
from dr_tf.models.network import KerasNetwork, member_networks
from dr_tf.models.paired import FUSIONS, age_and_sex_features, paired_classifier, patient_inputs, present_eyes

SIDE = 32
GRADES = {"grade": Softmax(), "edema": Edema()}
RNG = np.random.default_rng(0)


def backbone():
    return build_backbone("resnet_v2", image_size=SIDE, stem=4, filters=(4,))


def random_images(n=3):
    return RNG.integers(0, 256, (n, SIDE, SIDE, 3), np.uint8)


def pairs(left, right, left_present, right_present):
    present = {"left_present": np.array(left_present, bool), "right_present": np.array(right_present, bool)}
    return {"left": left, "right": right} | present


def save_and_load(model):
    """Save and load with plain Keras."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        return keras.saving.load_model(f"{folder}/model.keras", safe_mode=True)


class SingleTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        keras.utils.set_random_seed(0)
        self.model = classifier(backbone(), GRADES, hidden=(6,), dropout=0.5)

    def test_outputs_by_name(self):
        network, x = KerasNetwork(self.model), random_images()
        outputs, features = network(x)
        self.assertEqual({name: logits.shape for name, logits in outputs.items()}, {"grade": (3, 5), "edema": (3, 3)})
        self.assertEqual((features.shape, features.dtype, outputs["grade"].dtype), ((3, 6), np.float32, np.float32))
        self.assertEqual(network.outputs, ("grade", "edema"))
        self.assertEqual((network.image_size, network.width, network.paired), (SIDE, 6, False))
        self.assertRegex(network.description, "_grade_edema, [0-9,]+ weights$")
        self.assertIsNone(network.members(features))
        self.assertEqual(member_networks(self.model), [self.model])
        self.assertAllClose(outputs["grade"], self.model(x, training=False)["grade"], atol=1e-5)

    def test_all_heads_take_the_same_features(self):
        network = KerasNetwork(self.model)
        outputs, features = network(random_images())
        for name in GRADES:
            kernel, bias = self.model.get_layer(name).get_weights()
            self.assertAllClose(outputs[name], features @ kernel + bias, atol=1e-4)

    def test_saved_model_predicts_the_same_in_plain_keras(self):
        x = random_images()
        again = KerasNetwork(save_and_load(self.model))
        self.assertEqual(set(again.outputs), set(GRADES))
        for one, other in zip(KerasNetwork(self.model)(x), again(x), strict=True):
            self.assertAllClose(one, other, atol=1e-6)

    def test_other_models_and_files_are_refused_in_one_line(self):
        photograph = keras.Input((2, 2, 3))
        flat = keras.layers.Flatten()(photograph)
        with self.assertRaisesRegex(UserError, "has no named outputs: it was not made by this version"):
            KerasNetwork(keras.Model(photograph, flat))
        with self.assertRaisesRegex(UserError, f"has no layer '{FEATURES}': it was not made by dr_tf"):
            KerasNetwork(keras.Model(photograph, {"grade": flat}))
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.keras"
            for data in (None, b"", b"no model"):
                if data is not None:
                    path.write_bytes(data)
                with self.assertRaisesRegex(UserError, "model.keras cannot be loaded as a Keras model") as caught:
                    KerasNetwork.load(path)
                self.assertNotIn("\n", str(caught.exception))


class PairedTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        keras.utils.set_random_seed(0)
        cls.networks = {
            fuse: KerasNetwork(paired_classifier(backbone(), {"labels": MultiLabel()}, fuse=fuse, hidden=(6,)))
            for fuse in FUSIONS
        }
        cls.left, cls.right, cls.noise = random_images(), random_images(), random_images()

    def test_absent_eye_has_no_influence(self):
        """The right eye is absent in row 0, the left one in row 1."""
        present = [1, 0, 1], [0, 1, 1]
        hidden = pairs(
            np.where(np.reshape(present[0], (3, 1, 1, 1)) == 1, self.left, self.noise),
            np.where(np.reshape(present[1], (3, 1, 1, 1)) == 1, self.right, 0),
            *present,
        )
        for fuse, network in self.networks.items():
            one, other = (network(x) for x in (pairs(self.left, self.right, *present), hidden))
            with self.subTest(fuse):
                self.assertTrue(network.paired)
                self.assertEqual((network.image_size, network.width, one[0]["labels"].shape), (SIDE, 6, (3, 8)))
                self.assertAllClose(one, other, atol=1e-5)
                everything = network(pairs(self.left, self.right, [1] * 3, [1] * 3))
                self.assertNotAllClose(everything[1][:2], one[1][:2], atol=1e-3)
                self.assertAllClose(everything[1][2], one[1][2], atol=1e-5)

    def test_present_eye_has_influence(self):
        present = [1] * 3, [1] * 3
        for fuse, network in self.networks.items():
            one, other = (network(pairs(self.left, right, *present))[1] for right in (self.right, self.noise))
            with self.subTest(fuse):
                self.assertNotAllClose(one, other, atol=1e-3)

    def test_mean_and_max_of_equal_eyes_and_of_swapped_eyes(self):
        for fuse in ("mean", "max"):
            network = self.networks[fuse]
            both, alone, swapped, back = (
                network(pairs(*x))[1]
                for x in (
                    (self.left, self.left, [1] * 3, [1] * 3),
                    (self.left, self.noise, [1] * 3, [0] * 3),
                    (self.left, self.right, [1, 0, 1], [1, 1, 0]),
                    (self.right, self.left, [1, 1, 0], [1, 0, 1]),
                )
            )
            with self.subTest(fuse):
                self.assertAllClose(both, alone, atol=1e-5)
                self.assertAllClose(swapped, back, atol=1e-5)

    def test_fusion(self):
        features = [keras.ops.convert_to_tensor(x) for x in ([[1.0, -4]] * 4, [[3.0, -6]] * 4)]
        present = [
            keras.ops.convert_to_tensor([[x] for x in eye])
            for eye in ([True, True, False, False], [True, False, True, False])
        ]
        for fuse, expected in {
            "mean": [[2, -5], [1, -4], [3, -6], [0, 0]],
            "max": [[3, -4], [1, -4], [3, -6], [0, 0]],
            "concatenate": [[1, -4, 3, -6], [1, -4, 0, 0], [0, 0, 3, -6], [0, 0, 0, 0]],
        }.items():
            with self.subTest(fuse):
                self.assertAllClose(FUSIONS[fuse](features, present), expected)

    def test_two_absent_eyes_give_finite_values(self):
        for network in self.networks.values():
            outputs, features = network(pairs(self.left, self.right, [0] * 3, [0] * 3))
            self.assertTrue(np.isfinite(outputs["labels"]).all() and np.isfinite(features).all())

    def test_saved_model_predicts_the_same_in_plain_keras(self):
        x = pairs(self.left, self.right, [1, 0, 1], [0, 1, 1])
        for fuse, network in self.networks.items():
            again = KerasNetwork(save_and_load(network.model))
            with self.subTest(fuse):
                self.assertTrue(again.paired)
                self.assertAllClose(again(x), network(x), atol=1e-6)

    def test_an_eye_is_dropped_at_the_given_rate_but_never_both(self):
        inputs = patient_inputs(backbone(), age_and_sex=False)
        present = np.array([[1, 1]] * 4000 + [[1, 0], [0, 1], [0, 0]] * 100, bool)
        for rate in (0.3, 1.0):
            kept = keras.Model(inputs, present_eyes(inputs, rate))
            images = np.zeros((len(present), SIDE, SIDE, 3), np.float32)
            batch = dict.fromkeys(("left", "right"), images) | {
                f"{eye}_present": present[:, i] for i, eye in enumerate(("left", "right"))
            }
            self.assertAllEqual(np.hstack(kept(batch)), present)
            trained = np.hstack(kept(batch, training=True))
            both, others = trained[:4000], trained[4000:]
            self.assertAllEqual(others, present[4000:])  # a single eye is never dropped
            self.assertTrue(both.any(axis=1).all())
            self.assertAllClose([1 - both[:, 0].mean(), 1 - both[:, 1].mean()], [rate / 2] * 2, atol=0.04)

    def test_age_and_sex_may_be_unknown(self):
        inputs = {name: keras.Input((), name=name) for name in ("age", "sex")}
        model = keras.Model(inputs, age_and_sex_features(inputs, 0.5))
        kernel = np.zeros((2, 16), np.float32)
        kernel[:, :2] = [[1, 0], [0, 10]]  # decades above 50; female is 1, male -1
        model.get_layer("age_and_sex").set_weights([kernel, np.full(16, 20.0)])
        batch = {"age": np.float32([75, -1, 50, -1]), "sex": np.float32([0, 1, -1, -1])}
        self.assertAllClose(np.asarray(model(batch))[:, :2], [[22.5, 30], [20, 10], [20, 20], [20, 20]])
        rows = {name: np.repeat(values[:1], 1000, axis=0) for name, values in batch.items()}
        left_out = np.asarray(model(rows, training=True))[:, 0] == 20
        self.assertAllClose(left_out.mean(), 0.5, atol=0.1)
        self.assertIsNone(age_and_sex_features({}))

    def test_training(self):
        head = MultiLabel()
        model = keras.models.clone_model(self.networks["mean"].model)
        model.compile("adam", {"labels": head.loss()}, metrics={"labels": head.metrics()}, run_eagerly=True)
        targets = {"labels": np.float32([[1, 0, -1, 0, 0, 0, 0, 0]] * 3)}
        logs = model.fit(pairs(self.left, self.right, [1, 0, 1], [1] * 3), targets, verbose=0).history
        self.assertTrue(np.isfinite(logs["loss"]).all())


if __name__ == "__main__":
    tf.test.main()
