"""Keras models as networks, of one photograph and of both eyes."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import FEATURES, FUSIONS, classifier, paired_classifier
from dr_tf.models.heads.edema import Edema
from dr_tf.models.heads.multi_label import MultiLabel
from dr_tf.models.heads.softmax import Softmax
from dr_tf.models.network import KerasNetwork, members_of, over

SIDE = 32
GRADES = {"grade": Softmax(), "edema": Edema()}
RNG = np.random.default_rng(0)


def backbone():
    return build_backbone("resnet_v2", image_size=SIDE, stem=4, filters=(4,))


def drawn(n=3):
    return RNG.integers(0, 256, (n, SIDE, SIDE, 3), np.uint8)


def pairs(left, right, left_present, right_present):
    present = {"left_present": np.array(left_present, bool), "right_present": np.array(right_present, bool)}
    return {"left": left, "right": right} | present


def saved(model):
    """As whoever has nothing but Keras opens it."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        return keras.saving.load_model(f"{folder}/model.keras", safe_mode=True)


class SingleTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        keras.utils.set_random_seed(0)
        self.model = classifier(backbone(), GRADES, hidden=(6,), dropout=0.5)

    def test_it_answers_by_the_names_of_its_outputs(self):
        network, x = KerasNetwork(self.model), drawn()
        outputs, features = network(x)
        self.assertEqual({name: of.shape for name, of in outputs.items()}, {"grade": (3, 5), "edema": (3, 3)})
        self.assertEqual((features.shape, features.dtype, outputs["grade"].dtype), ((3, 6), np.float32, np.float32))
        self.assertEqual(network.outputs, ("grade", "edema"))
        self.assertEqual((network.image_size, network.width, network.paired), (SIDE, 6, False))
        self.assertRegex(network.description, "_grade_edema, [0-9,]+ weights$")
        self.assertIsNone(network.members(features))
        self.assertEqual(members_of(self.model), [self.model])
        self.assertAllClose(outputs["grade"], self.model(x, training=False)["grade"], atol=1e-5)

    def test_every_head_reads_the_same_features(self):
        network = KerasNetwork(self.model)
        outputs, features = network(drawn())
        for name in GRADES:
            kernel, bias = self.model.get_layer(name).get_weights()
            self.assertAllClose(outputs[name], features @ kernel + bias, atol=1e-4)

    def test_saved_it_answers_the_same_in_plain_keras(self):
        x = drawn()
        again = KerasNetwork(saved(self.model))
        self.assertEqual(set(again.outputs), set(GRADES))
        for one, other in zip(KerasNetwork(self.model)(x), again(x), strict=True):
            self.assertAllClose(one, other, atol=1e-6)

    def test_over_batches(self):
        network, x = KerasNetwork(self.model), drawn(5)
        outputs, features = over(network, [(x[:2], "truth"), (x[2:],)])
        whole, of_whole = network(x)
        self.assertAllClose(outputs["edema"], whole["edema"], atol=1e-5)
        self.assertAllClose(features, of_whole, atol=1e-5)

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
                with self.assertRaisesRegex(UserError, "model.keras is no model that can be read") as caught:
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
        cls.left, cls.right, cls.noise = drawn(), drawn(), drawn()

    def test_an_eye_that_is_not_there_has_no_influence(self):
        """Row 0 lacks the right eye, row 1 the left one, row 2 none."""
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

    def test_an_eye_that_is_there_has_influence(self):
        there = [1] * 3, [1] * 3
        for fuse, network in self.networks.items():
            one, other = (network(pairs(self.left, right, *there))[1] for right in (self.right, self.noise))
            with self.subTest(fuse):
                self.assertNotAllClose(one, other, atol=1e-3)

    def test_two_alike_are_one_by_mean_and_max_and_their_order_is_nothing(self):
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

    def test_what_fusing_makes_by_hand(self):
        each = [keras.ops.convert_to_tensor(x) for x in ([[1.0, -4]] * 4, [[3.0, -6]] * 4)]
        there = [
            keras.ops.convert_to_tensor([[x] for x in eye])
            for eye in ([True, True, False, False], [True, False, True, False])
        ]
        for fuse, expected in {
            "mean": [[2, -5], [1, -4], [3, -6], [0, 0]],
            "max": [[3, -4], [1, -4], [3, -6], [0, 0]],
            "concatenate": [[1, -4, 3, -6], [1, -4, 0, 0], [0, 0, 3, -6], [0, 0, 0, 0]],
        }.items():
            with self.subTest(fuse):
                self.assertAllClose(FUSIONS[fuse](each, there), expected)

    def test_no_eye_at_all_gives_numbers(self):
        for network in self.networks.values():
            outputs, features = network(pairs(self.left, self.right, [0] * 3, [0] * 3))
            self.assertTrue(np.isfinite(outputs["labels"]).all() and np.isfinite(features).all())

    def test_saved_it_answers_the_same_in_plain_keras(self):
        x = pairs(self.left, self.right, [1, 0, 1], [0, 1, 1])
        for fuse, network in self.networks.items():
            again = KerasNetwork(saved(network.model))
            with self.subTest(fuse):
                self.assertTrue(again.paired)
                self.assertAllClose(again(x), network(x), atol=1e-6)

    def test_it_is_trained_like_any_other(self):
        head = MultiLabel()
        model = keras.models.clone_model(self.networks["mean"].model)
        model.compile("adam", {"labels": head.loss()}, metrics={"labels": head.metrics()}, run_eagerly=True)
        targets = {"labels": np.float32([[1, 0, -1, 0, 0, 0, 0, 0]] * 3)}
        logs = model.fit(pairs(self.left, self.right, [1, 0, 1], [1] * 3), targets, verbose=0).history
        self.assertTrue(np.isfinite(logs["loss"]).all())

    def test_an_unknown_fusion_lists_the_known(self):
        with self.assertRaisesRegex(UserError, "unknown paired_classifier.fuse 'sum'; known: mean, max, concatenate"):
            paired_classifier(backbone(), {"labels": MultiLabel()}, fuse="sum")


if __name__ == "__main__":
    tf.test.main()
