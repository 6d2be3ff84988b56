"""Strided 1x1 convolutions: the outputs of Keras' layer, and gradients computed by hand."""

import keras
import numpy as np
import tensorflow as tf

from dr_tf.models.layers.pointwise import SteppedConv2D
from dr_tf.models.layers.replace_layers import to_project_layers


def _model(padding, side):
    keras.utils.set_random_seed(0)
    image = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(4, 1, 2, padding=padding, name="one")(image)
    return keras.Model(image, keras.layers.Conv2D(5, 3, 2, padding=padding, name="three")(x))


class PointwiseTest(tf.test.TestCase):
    def test_same_outputs(self):
        for padding in ("same", "valid"):
            for side in (16, 17):
                x = np.random.default_rng(1).normal(size=(1, side, side, 3)).astype(np.float32)
                with self.subTest(padding=padding, side=side):
                    model = to_project_layers(_model(padding, side))
                    self.assertIs(type(model.get_layer("one")), SteppedConv2D)
                    self.assertIs(type(model.get_layer("three")), keras.layers.Conv2D)
                    self.assertAllClose(model(x), _model(padding, side)(x))

    def test_gradients(self):
        """By hand, as the gradient of Keras' layer must not even be run.

        With y[i, j] = K^T x[2i, 2j] + b and the loss sum(w y), dL/dx[2i, 2j] = K w[i, j], and 0 at all other pixels;
        dL/dK = sum over i, j of x[2i, 2j] w[i, j]^T; dL/db = sum of w[i, j].
        """
        rng = np.random.default_rng(1)
        for padding in ("same", "valid"):
            for side in (16, 17):
                layer = SteppedConv2D(4, 1, 2, padding=padding)
                x = tf.constant(rng.normal(size=(1, side, side, 3)).astype(np.float32))
                weights = rng.normal(size=(1, (side + 1) // 2, (side + 1) // 2, 4)).astype(np.float32)
                layer.build(x.shape)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    loss = tf.reduce_sum(layer(x) * weights)
                of_x, of_kernel, of_bias = tape.gradient(loss, [x, layer.kernel.value, layer.bias.value])
                expected = np.zeros(x.shape, np.float32)
                expected[:, ::2, ::2] = weights @ layer.kernel.numpy()[0, 0].T
                with self.subTest(padding=padding, side=side):
                    self.assertAllClose(of_x, expected, atol=1e-5)
                    read = x.numpy()[:, ::2, ::2]
                    self.assertAllClose(of_kernel[0, 0], np.einsum("nijc,nijk->ck", read, weights), atol=1e-4)
                    self.assertAllClose(of_bias, weights.sum(axis=(0, 1, 2)), atol=1e-4)

    def test_many_steps_do_not_corrupt_memory(self):
        """Keras' layer crashes here with "munmap_chunk(): invalid pointer"."""
        image = keras.Input((64, 64, 3))
        x = keras.layers.Conv2D(16, 1, 2, padding="same", use_bias=False)(image)
        x = keras.layers.Conv2D(32, 1, 2, padding="same", use_bias=False)(x)
        model = to_project_layers(keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)))
        model.compile("sgd", "mse", jit_compile=False)
        images = np.ones((24, 64, 64, 3), np.float32)
        history = model.fit(images, np.zeros((24, 32)), batch_size=5, epochs=8, verbose=0)
        self.assertTrue(np.isfinite(history.history["loss"]).all())

    def test_replaces_only_strided_1x1_convolutions(self):
        for options in ({"strides": 1}, {"kernel_size": 3}, {"groups": 2}, {"data_format": "channels_first"}):
            layer = keras.layers.Conv2D(**{"filters": 4, "kernel_size": 1, "strides": 2} | options)
            self.assertFalse(SteppedConv2D.replaces(layer), options)
        self.assertTrue(SteppedConv2D.replaces(keras.layers.Conv2D(4, 1, (1, 2))))


if __name__ == "__main__":
    tf.test.main()
