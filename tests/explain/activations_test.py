"""Activations are recorded inside any layer, and the network itself does not change."""

import concurrent.futures
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.explainer import Explainer
from dr_tf.models.heads import HEADS
from dr_tf.models.keras_private import layers_within
from tests.explain import nets

BINARY = HEADS["binary"]()


@keras.saving.register_keras_serializable("dr_tf.tests")
class Holder(keras.layers.Layer):
    """Calls layers that it holds as an attribute, in a list, in a dict, and inside an inner network."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first = nets.red_and_green("first")
        self.listed = [keras.layers.ReLU(name="second")]
        self.named = {"third": keras.layers.Identity(name="third")}
        self.inner = keras.Sequential([keras.Input((2, 2, 2)), keras.layers.Identity(name="fourth")], name="inner")
        self.unused = keras.layers.Identity(name="unused")

    def call(self, x):
        return self.inner(self.named["third"](self.listed[0](self.first(x))))


def nested():
    """Like nets.linear, but with all layers inside one layer."""
    image = keras.Input((2, 2, 3))
    x = keras.layers.Flatten()(Holder(name="holder")(image))
    return nets.with_output(image, x, nets.WEIGHTS)


def state_of(model):
    """The identity of every attribute of every layer."""
    parts = layers_within(model)
    return [(id(part), {name: id(value) for name, value in vars(part).items()}) for part in parts]


class StateRecorder:
    """A head that records the state of the network while an explanation is computed."""

    def __init__(self, model):
        self.model, self.states = model, []

    def __getattr__(self, name):
        return getattr(BINARY, name)

    def evidence(self, logits):
        self.states.append(state_of(self.model))
        return BINARY.evidence(logits)


class NestedLayersTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_layers_inside_layers(self):
        model = nested()
        for name in ("first", "second", "third", "fourth", "holder/inner/fourth", "inner", "holder"):
            with self.subTest(name):
                maps = Explainer(model, BINARY, method="hires_cam", layer=name)(nets.images()).maps
                self.assertAllClose(maps, Explainer(nets.linear(), BINARY, method="hires_cam")(nets.images()).maps)

    def test_transformer_blocks(self):
        from keras_hub.models import ViTBackbone

        keras.utils.set_random_seed(0)
        backbone = ViTBackbone(
            image_shape=(32, 32, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8
        )
        x = keras.layers.Lambda(lambda tokens: tokens[:, 0])(backbone.output)
        model = nets.with_output(backbone.input, x, np.random.default_rng(1).normal(size=8))
        explainer = Explainer(model, BINARY)
        self.assertIn("enter encoder/", explainer.layer_name.replace("vit_", ""))
        found = explainer(np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8))
        self.assertEqual(found.maps.shape, (2, 4, 4))
        self.assertTrue(found.maps.any())

    def test_layer_that_is_never_called(self):
        model = nested()
        with self.assertRaisesRegex(UserError, "the prediction does not depend on unused"):
            Explainer(model, BINARY, layer="unused")(nets.images())


class UnchangedTest(tf.test.TestCase):
    def test_network_does_not_change(self):
        for model in (nets.linear(), nets.transformer(), nested()):
            x = nets.images()
            model(x)
            recorder = StateRecorder(model)
            explainer = Explainer(model, recorder)
            recorder.states.clear()
            before = state_of(model)
            explainer(x)
            self.assertTrue(recorder.states)
            for state in [*recorder.states, state_of(model)]:
                self.assertEqual(state, before)

    @pytest.mark.slow
    def test_threads_with_one_network(self):
        model = nested()
        x = nets.images(np.random.default_rng(0).uniform(0, 5, (4, 2, 2, 2)))
        settings = [
            (method, layer, target)
            for method in ("grad_cam", "hires_cam")
            for layer in ("first", "third", "holder")
            for target in ("positive", "not referable")
        ]
        together = threading.Barrier(len(settings))

        def maps(method, layer, target, wait=lambda: None):
            explainer = Explainer(model, BINARY, method=method, layer=layer)
            wait()
            return explainer(x, target).maps

        alone = [maps(*one) for one in settings]
        with concurrent.futures.ThreadPoolExecutor(len(settings)) as pool:
            at_once = [pool.submit(maps, *one, together.wait) for one in settings]
            for one, expected in zip(at_once, alone, strict=True):
                self.assertAllClose(one.result(), expected)

    def test_threads_with_one_explainer(self):
        explainer, together = Explainer(nested(), BINARY, method="hires_cam"), threading.Barrier(4)
        batches = [nets.images(np.full((n, 2, 2, 2), n)) for n in (1, 2, 3, 4)]

        def maps(x):
            together.wait()
            return explainer(x).maps

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for x, found in zip(batches, pool.map(maps, batches), strict=True):
                self.assertAllClose(found, explainer(x).maps)
                self.assertEqual(len(found), len(x))


if __name__ == "__main__":
    tf.test.main()
