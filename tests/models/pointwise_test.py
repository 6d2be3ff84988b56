import keras
import numpy as np
import tensorflow as tf

from dr_tf.models.layers.pointwise import SteppedConv2D
from dr_tf.models.layers.replace_layers import own


def _model(padding, side):
    keras.utils.set_random_seed(0)
    photograph = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(4, 1, 2, padding=padding, name="one")(photograph)
    return keras.Model(photograph, keras.layers.Conv2D(5, 3, 2, padding=padding, name="three")(x))


def _gradient(model, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(model(x, training=True) ** 2)
    return tape.gradient(loss, x)


class PointwiseTest(tf.test.TestCase):
    def test_same_outputs_and_the_gradient_by_hand(self):
        for padding in ("same", "valid"):
            for side in (16, 17):
                x = np.random.default_rng(1).normal(size=(1, side, side, 3)).astype(np.float32)
                with self.subTest(padding=padding, side=side):
                    stepped = own(_model(padding, side))
                    self.assertIs(type(stepped.get_layer("one")), SteppedConv2D)
                    self.assertIs(type(stepped.get_layer("three")), keras.layers.Conv2D)
                    self.assertAllClose(stepped(x), _model(padding, side)(x))
                    # The plain layer's gradient must not even be run. By hand: what lies between is not read.
                    of_x = _gradient(stepped, x).numpy()
                    self.assertAllEqual(of_x[:, 1::2], np.zeros_like(of_x[:, 1::2]))
                    self.assertGreater(np.abs(of_x[:, ::2, ::2]).sum(), 0)

    def test_many_steps_leave_memory_whole(self):
        """Died of "munmap_chunk(): invalid pointer" with the plain layer."""
        photograph = keras.Input((64, 64, 3))
        x = keras.layers.Conv2D(16, 1, 2, padding="same", use_bias=False)(photograph)
        x = keras.layers.Conv2D(32, 1, 2, padding="same", use_bias=False)(x)
        model = keras.Model(photograph, keras.layers.GlobalAveragePooling2D()(x))
        model = own(model)
        model.compile("sgd", "mse", jit_compile=False)
        photographs = np.ones((24, 64, 64, 3), np.float32)
        history = model.fit(photographs, np.zeros((24, 32)), batch_size=5, epochs=8, verbose=0)
        self.assertTrue(np.isfinite(history.history["loss"]).all())

    def test_only_what_has_steps_and_one_pixel(self):
        for options in ({"strides": 1}, {"kernel_size": 3}, {"groups": 2}, {"data_format": "channels_first"}):
            layer = keras.layers.Conv2D(**{"filters": 4, "kernel_size": 1, "strides": 2} | options)
            self.assertFalse(SteppedConv2D.replaces(layer), options)
        self.assertTrue(SteppedConv2D.replaces(keras.layers.Conv2D(4, 1, (1, 2))))
