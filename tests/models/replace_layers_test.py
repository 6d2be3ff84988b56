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
from dr_tf.models.layers.replace_layers import own, plain, with_safe_gradients
from dr_tf.models.stages import freeze

PHOTOGRAPHS = np.random.default_rng(0).normal(1, 2, (4, 8, 8, 3)).astype(np.float32)


@keras.saving.register_keras_serializable("exchange_test")
class Block(layers.Layer):
    """Layers as attributes, in a list, and in a layer inside, as the blocks of keras-hub have them."""

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
class Kept(layers.Layer):
    """A layer that is kept where no exchange reaches it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.kept = {"norm": layers.BatchNormalization(name="norm")}

    def call(self, x):
        return self.kept["norm"](x)

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


def around(*inner):
    photograph = keras.Input((8, 8, 3))
    x = photograph
    for layer in inner:
        x = layer(x)
    return keras.Model(photograph, x)


def drawn(model):
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def kinds(model):
    return [type(layer) for layer in layers_within(model)]


class ExchangeTest(tf.test.TestCase):
    def assert_same(self, one, other):
        self.assertEqual([layer.name for layer in one.layers], [layer.name for layer in other.layers])
        for attribute in ("path", "name", "dtype", "trainable"):
            found = [[getattr(v, attribute) for v in model.weights] for model in (one, other)]
            self.assertEqual(*found)
        self.assertEqual([v.path for v in one.trainable_variables], [v.path for v in other.trainable_variables])
        for ours, theirs in zip(one.variables, other.variables, strict=True):
            self.assertAllEqual(ours.numpy(), theirs.numpy())
        self.assertAllClose(one(PHOTOGRAPHS), other(PHOTOGRAPHS), atol=1e-5)

    def assert_exchanged(self, model, count):
        made = own(drawn(model))
        self.assertNotIn(layers.BatchNormalization, kinds(made))
        self.assertEqual(sum(kind in (FusedBatchNormalization, SteppedConv2D) for kind in kinds(made)), count)
        self.assert_same(model, made)
        again = plain(made)
        self.assertFalse({FusedBatchNormalization, SteppedConv2D} & set(kinds(again)))
        self.assert_same(made, again)

    def test_there_and_back_everything_but_the_class_stays(self):
        self.assert_exchanged(flat(), 3)
        made = own(flat())
        self.assertEqual(made.name, "flat")
        self.assertEqual(list(made.output), ["maps", "pooled"])
        self.assertFalse(made.get_layer("frozen").trainable)
        for layer in flat().layers:
            self.assertEqual(layer.get_config(), made.get_layer(layer.name).get_config())

    def test_inside_of_layers_at_any_depth(self):
        self.assert_exchanged(around(Block(2)), 9)

    def test_inside_of_inner_networks(self):
        chain = keras.Sequential([keras.Input((8, 8, 3)), layers.BatchNormalization(), Block(1)])
        self.assert_exchanged(around(chain), 7)
        self.assert_exchanged(around(around(layers.BatchNormalization(), chain)), 8)

    def test_inside_of_a_wrapper_that_writes_down_what_it_wraps(self):
        frames = keras.Input((2, 8, 8, 3))
        made = own(keras.Model(frames, layers.TimeDistributed(layers.BatchNormalization())(frames)))
        self.assertIn(FusedBatchNormalization, kinds(made))
        self.assertNotIn(FusedBatchNormalization, kinds(plain(made)))

    def test_what_cannot_be_reached_is_left_whole(self):
        model = around(Kept())
        made = own(model)
        self.assertIn(layers.BatchNormalization, kinds(made))
        self.assert_same(model, made)

    def test_statistics_that_a_layer_works_by(self):
        model = around(layers.Normalization())
        model.layers[1].adapt(PHOTOGRAPHS)
        self.assert_same(model, own(model))

    def test_what_drops_goes_on_where_it_was(self):
        model = own(flat())
        model(PHOTOGRAPHS, training=True)
        one, other = (network(PHOTOGRAPHS, training=True) for network in (model, plain(model)))
        self.assertAllClose(one["pooled"], other["pooled"], atol=1e-5)

    def test_a_dropout_that_was_frozen(self):
        model = own(flat())
        freeze(model.layers)
        self.assertEqual(plain(model).get_layer("drop").rate, 0.0)

    def test_half_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        model = flat()
        keras.config.set_dtype_policy("float32")
        made = plain(own(model))
        for layer in model.layers[1:]:
            self.assertEqual(made.get_layer(layer.name).dtype_policy.name, "mixed_float16")


class SavedTest(tf.test.TestCase):
    def test_what_is_only_to_have_safe_gradients_keeps_its_other_layers(self):
        model = plain(build_backbone("resnet_v2", image_size=32, stem=4, filters=(4, 8)).model)
        safe = with_safe_gradients(model)
        kinds = {type(layer) for layer in layers_within(safe)}
        self.assertIn(SteppedConv2D, kinds)
        self.assertNotIn(FusedBatchNormalization, kinds)
        self.assertFalse([layer for layer in layers_within(safe) if SteppedConv2D.replaces(layer)])
        x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        self.assertAllClose(safe(x)["pooled"], model(x)["pooled"], atol=1e-5)
        self.assertIs(with_safe_gradients(safe), safe)

    def test_opens_in_safe_mode_where_this_project_is_not(self):
        model = own(drawn(flat()))
        path = pathlib.Path(self.get_temp_dir(), "model.keras")
        plain(model).save(path)
        self.assertNotIn(b"dr_tf", zipfile.ZipFile(path).read("config.json"))
        code = (
            "import sys, keras, numpy as np\n"
            f"model = keras.saving.load_model({str(path)!r}, safe_mode=True)\n"
            "assert not any(name.startswith('dr_tf.') for name in sys.modules)\n"
            "assert {type(layer).__module__.split('.')[0] for layer in model.layers} == {'keras'}\n"
            f"np.save({str(path) + '.npy'!r}, model(np.load({str(path) + '.in.npy'!r}))['pooled'])\n"
        )
        np.save(f"{path}.in.npy", PHOTOGRAPHS)
        subprocess.run([sys.executable, "-c", code], cwd=self.get_temp_dir(), check=True, capture_output=True)
        self.assertAllClose(np.load(f"{path}.npy"), model(PHOTOGRAPHS)["pooled"], atol=1e-5)

    def test_saved_as_it_was_made_it_opens_here(self):
        model = own(drawn(flat()))
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.saving.load_model(path, safe_mode=True)
        self.assertIsInstance(loaded.get_layer("norm"), FusedBatchNormalization)
        self.assertAllClose(loaded(PHOTOGRAPHS)["pooled"], model(PHOTOGRAPHS)["pooled"])


if __name__ == "__main__":
    tf.test.main()
