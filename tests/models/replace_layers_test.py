"""Networks keep everything but the classes of their layers, in both directions."""

import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from dr_tf.models.backbones import build_backbone
from dr_tf.models.keras_private import layers_within
from dr_tf.models.layers.batch_normalization import FusedBatchNormalization
from dr_tf.models.layers.pointwise import SteppedConv2D
from dr_tf.models.layers.replace_layers import replace_unsafe_convolutions, to_plain_keras, to_project_layers
from dr_tf.models.stages import freeze

IMAGES = np.random.default_rng(0).normal(1, 2, (4, 8, 8, 3)).astype(np.float32)


@keras.saving.register_keras_serializable("exchange_test")
class Block(layers.Layer):
    """Layers as attributes, in a list, and inside an inner layer, as in the blocks of keras-hub."""

    def __init__(self, depth=1, **options):
        super().__init__(**options)
        self.depth = depth
        self.before = layers.BatchNormalization(momentum=0.7, name="before")
        self.steps = [layers.Conv2D(4, 1, 2, name="step"), layers.BatchNormalization(epsilon=0.1, name="after")]
        self.inner = Block(depth - 1, name="inner") if depth else layers.ReLU()

    def call(self, x, training=None):
        x = self.before(x, training=training)
        for step in self.steps:
            x = step(x)
        return self.inner(x)

    def get_config(self):
        return super().get_config() | {"depth": self.depth}


@keras.saving.register_keras_serializable("exchange_test")
class InDict(layers.Layer):
    """A layer in a dictionary, where it cannot be replaced."""

    def __init__(self, **options):
        super().__init__(**options)
        self.layers_by_name = {"norm": layers.BatchNormalization(name="norm")}

    def call(self, x):
        return self.layers_by_name["norm"](x)

    def get_config(self):
        return super().get_config()


def flat():
    photograph = keras.Input((8, 8, 3), name="photograph")
    x = layers.BatchNormalization(momentum=0.6, name="norm")(photograph)
    x = layers.Dropout(0.5, seed=1, name="drop")(x)
    x = layers.Conv2D(5, 1, 2, name="step")(x)
    x = layers.BatchNormalization(trainable=False, name="frozen")(x)
    maps = layers.Conv2D(2, 3, name="conv")(x)
    pooled = layers.GlobalAveragePooling2D(name="pool")(maps)
    return keras.Model(photograph, {"maps": maps, "pooled": pooled}, name="flat")


def wrap(*inner):
    photograph = keras.Input((8, 8, 3))
    x = photograph
    for layer in inner:
        x = layer(x)
    return keras.Model(photograph, x)


def with_random_weights(model):
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def classes_of(model):
    return [type(layer) for layer in layers_within(model)]


class ReplaceTest(tf.test.TestCase):
    def assert_same(self, one, other):
        self.assertEqual([layer.name for layer in one.layers], [layer.name for layer in other.layers])
        for attribute in ("path", "name", "dtype", "trainable"):
            values = [[getattr(v, attribute) for v in model.weights] for model in (one, other)]
            self.assertEqual(*values)
        self.assertEqual([v.path for v in one.trainable_variables], [v.path for v in other.trainable_variables])
        for ours, theirs in zip(one.variables, other.variables, strict=True):
            self.assertAllEqual(ours.numpy(), theirs.numpy())
        self.assertAllClose(one(IMAGES), other(IMAGES), atol=1e-5)

    def assert_replaced(self, model, count):
        made = to_project_layers(with_random_weights(model))
        self.assertNotIn(layers.BatchNormalization, classes_of(made))
        self.assertEqual(sum(kind in (FusedBatchNormalization, SteppedConv2D) for kind in classes_of(made)), count)
        self.assert_same(model, made)
        again = to_plain_keras(made)
        self.assertFalse({FusedBatchNormalization, SteppedConv2D} & set(classes_of(again)))
        self.assert_same(made, again)

    def test_there_and_back(self):
        self.assert_replaced(flat(), 3)
        made = to_project_layers(flat())
        self.assertEqual(made.name, "flat")
        self.assertEqual(list(made.output), ["maps", "pooled"])
        self.assertFalse(made.get_layer("frozen").trainable)
        for layer in flat().layers:
            self.assertEqual(layer.get_config(), made.get_layer(layer.name).get_config())

    def test_inside_layers_at_any_depth(self):
        self.assert_replaced(wrap(Block(2)), 9)

    def test_inside_inner_networks(self):
        chain = keras.Sequential([keras.Input((8, 8, 3)), layers.BatchNormalization(), Block(1)])
        self.assert_replaced(wrap(chain), 7)
        self.assert_replaced(wrap(wrap(layers.BatchNormalization(), chain)), 8)

    def test_inside_a_wrapper_whose_config_contains_the_layer(self):
        frames = keras.Input((2, 8, 8, 3))
        made = to_project_layers(keras.Model(frames, layers.TimeDistributed(layers.BatchNormalization())(frames)))
        self.assertIn(FusedBatchNormalization, classes_of(made))
        self.assertNotIn(FusedBatchNormalization, classes_of(to_plain_keras(made)))

    def test_layer_that_cannot_be_replaced_stays(self):
        model = wrap(InDict())
        made = to_project_layers(model)
        self.assertIn(layers.BatchNormalization, classes_of(made))
        self.assert_same(model, made)

    def test_constants_of_normalization(self):
        model = wrap(layers.Normalization())
        model.layers[1].adapt(IMAGES)
        self.assert_same(model, to_project_layers(model))

    def test_dropout_continues_its_random_sequence(self):
        model = to_project_layers(flat())
        model(IMAGES, training=True)
        one, other = (network(IMAGES, training=True) for network in (model, to_plain_keras(model)))
        self.assertAllClose(one["pooled"], other["pooled"], atol=1e-5)

    def test_frozen_dropout(self):
        model = to_project_layers(flat())
        freeze(model.layers)
        self.assertEqual(to_plain_keras(model).get_layer("drop").rate, 0.0)

    def test_half_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        model = flat()
        keras.config.set_dtype_policy("float32")
        made = to_plain_keras(to_project_layers(model))
        for layer in model.layers[1:]:
            self.assertEqual(made.get_layer(layer.name).dtype_policy.name, "mixed_float16")


class SavedTest(tf.test.TestCase):
    def test_unsafe_convolutions_alone(self):
        model = to_plain_keras(build_backbone("resnet_v2", image_size=32, stem=4, filters=(4, 8)).model)
        safe = replace_unsafe_convolutions(model)
        classes = {type(layer) for layer in layers_within(safe)}
        self.assertIn(SteppedConv2D, classes)
        self.assertNotIn(FusedBatchNormalization, classes)
        self.assertFalse([layer for layer in layers_within(safe) if SteppedConv2D.replaces(layer)])
        x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        self.assertAllClose(safe(x)["pooled"], model(x)["pooled"], atol=1e-5)
        self.assertIs(replace_unsafe_convolutions(safe), safe)

    def test_opens_in_safe_mode_without_this_project(self):
        model = to_project_layers(with_random_weights(flat()))
        path = pathlib.Path(self.get_temp_dir(), "model.keras")
        to_plain_keras(model).save(path)
        self.assertNotIn(b"dr_tf", zipfile.ZipFile(path).read("config.json"))
        code = (
            "import sys, keras, numpy as np\n"
            f"model = keras.saving.load_model({str(path)!r}, safe_mode=True)\n"
            "assert not any(name.startswith('dr_tf.') for name in sys.modules)\n"
            "assert {type(layer).__module__.split('.')[0] for layer in model.layers} == {'keras'}\n"
            f"np.save({str(path) + '.npy'!r}, model(np.load({str(path) + '.in.npy'!r}))['pooled'])\n"
        )
        np.save(f"{path}.in.npy", IMAGES)
        subprocess.run([sys.executable, "-c", code], cwd=self.get_temp_dir(), check=True, capture_output=True)
        self.assertAllClose(np.load(f"{path}.npy"), model(IMAGES)["pooled"], atol=1e-5)

    def test_saved_with_project_layers(self):
        model = to_project_layers(with_random_weights(flat()))
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.saving.load_model(path, safe_mode=True)
        self.assertIsInstance(loaded.get_layer("norm"), FusedBatchNormalization)
        self.assertAllClose(loaded(IMAGES)["pooled"], model(IMAGES)["pooled"])


if __name__ == "__main__":
    tf.test.main()
