"""Maps are read from a network that nobody sees changed: others may be using it."""

import concurrent.futures
import threading

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.explainer import Explainer
from dr_tf.models.heads import HEADS
from dr_tf.models.keras_private import layers_within
from tests.explain import nets

BINARY = HEADS["binary"]()


@keras.saving.register_keras_serializable("dr_tf.tests")
class Holder(keras.layers.Layer):
    """Holds layers as an attribute, in a list, in a dict, and in a layer in it, and calls all of them."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first = nets.red_and_green("first")
        self.listed = [keras.layers.ReLU(name="second")]
        self.named = {"third": keras.layers.Identity(name="third")}
        self.inner = keras.Sequential([keras.Input((2, 2, 2)), keras.layers.Identity(name="fourth")], name="inner")
        self.unused = keras.layers.Identity(name="unused")

    def call(self, x):
        return self.inner(self.named["third"](self.listed[0](self.first(x))))


def holding():
    """logit = sum of WEIGHTS * MAP, as of nets.linear, but all of it inside of one layer."""
    photograph = keras.Input((2, 2, 3))
    x = keras.layers.Flatten()(Holder(name="holder")(photograph))
    return nets.answering(photograph, x, nets.WEIGHTS)


def state_of(model):
    """What each part of a network has, as it is: a change of any shows."""
    parts = layers_within(model)
    return [(id(part), {name: id(value) for name, value in vars(part).items()}) for part in parts]


class Watching:
    """A head that looks at the network when it is asked, which is while the taps are in place."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __getattr__(self, name):
        return getattr(BINARY, name)

    def evidence(self, logits):
        self.seen.append(state_of(self.model))
        return BINARY.evidence(logits)


class InsideTest(tf.test.TestCase):
    def test_layers_in_layers(self):
        model = holding()
        for name in ("first", "second", "third", "fourth", "holder/inner/fourth", "inner", "holder"):
            with self.subTest(name):
                maps = Explainer(model, BINARY, method="hires_cam", layer=name)(nets.photographs()).maps
                self.assertAllClose(maps, Explainer(nets.linear(), BINARY, method="hires_cam")(nets.photographs()).maps)

    def test_a_transformer_of_blocks(self):
        from keras_hub.models import ViTBackbone

        keras.utils.set_random_seed(0)
        backbone = ViTBackbone(
            image_shape=(32, 32, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8
        )
        x = keras.layers.Lambda(lambda tokens: tokens[:, 0])(backbone.output)
        model = nets.answering(backbone.input, x, np.random.default_rng(1).normal(size=8))
        explainer = Explainer(model, BINARY)
        self.assertIn("enter encoder/", explainer.map_layer.name.replace("vit_", ""))
        found = explainer(np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8))
        self.assertEqual(found.maps.shape, (2, 4, 4))
        self.assertTrue(found.maps.any())

    def test_a_layer_that_is_never_called(self):
        model = holding()
        with self.assertRaisesRegex(UserError, "the answer does not depend on unused"):
            Explainer(model, BINARY, layer="unused")(nets.photographs())


class SharedTest(tf.test.TestCase):
    def test_nothing_of_the_network_changes(self):
        for model in (nets.linear(), nets.transformer(), holding()):
            x = nets.photographs()
            model(x)
            explainer = Explainer(model, BINARY)
            explainer.head = watching = Watching(model)
            before = state_of(model)
            explainer(x)
            self.assertTrue(watching.seen)
            for state in [*watching.seen, state_of(model)]:
                self.assertEqual(state, before)

    def test_threads_that_explain_by_one_network_at_once(self):
        model = holding()
        x = nets.photographs(np.random.default_rng(0).uniform(0, 5, (4, 2, 2, 2)))
        asked = [
            (method, layer, target)
            for method in ("grad_cam", "hires_cam")
            for layer in ("first", "third", "holder")
            for target in ("positive", "not referable")
        ]
        together = threading.Barrier(len(asked))

        def maps(method, layer, target, wait=lambda: None):
            explainer = Explainer(model, BINARY, method=method, layer=layer)
            wait()
            return explainer(x, target).maps

        alone = [maps(*one) for one in asked]
        with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
            at_once = [pool.submit(maps, *one, together.wait) for one in asked]
            for one, expected in zip(at_once, alone, strict=True):
                self.assertAllClose(one.result(), expected)

    def test_threads_that_explain_by_one_explainer_at_once(self):
        explainer, together = Explainer(holding(), BINARY, method="hires_cam"), threading.Barrier(4)
        batches = [nets.photographs(np.full((n, 2, 2, 2), n)) for n in (1, 2, 3, 4)]

        def maps(x):
            together.wait()
            return explainer(x).maps

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for x, found in zip(batches, pool.map(maps, batches), strict=True):
                self.assertAllClose(found, explainer(x).maps)
                self.assertEqual(len(found), len(x))


if __name__ == "__main__":
    tf.test.main()
