"""CBAM: values computed by hand, gradients, saving and mixed precision."""

import keras
import numpy as np
import tensorflow as tf

from dr_tf.models.attention import cbam, channel_attention, spatial_attention


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def built(function, shape, **options):
    x = keras.Input(shape)
    return keras.Model(x, function(x, "it", **options))


class ChannelAttentionTest(tf.test.TestCase):
    # Two channels at 1 x 2 places: means 2 and -1, maxima 3 and 0.
    X = np.float32([[[[1, -2], [3, 0]]]])

    def test_values(self):
        """One hidden unit h = relu(a + 2 b + 0.5): 0.5 of the means, 3.5 of the maxima; out = (h + 0.1, -h)."""
        model = built(channel_attention, (1, 2, 2), reduction=2)
        model.get_layer("it_hidden").set_weights([np.float32([[1], [2]]), np.float32([0.5])])
        model.get_layer("it_out").set_weights([np.float32([[1, -1]]), np.float32([0.1, 0])])
        weights = sigmoid([0.6 + 3.6, -0.5 - 3.5])
        self.assertAllClose(model(self.X), self.X * weights, rtol=1e-6)

    def test_relu_of_the_hidden_layer(self):
        model = built(channel_attention, (1, 2, 2), reduction=2)
        model.get_layer("it_hidden").set_weights([np.float32([[-1], [0]]), np.float32([0])])
        self.assertAllClose(model(self.X), self.X / 2)  # h = 0 and out = 0, so every weight is sigmoid(0)

    def test_both_poolings_share_the_mlp(self):
        model = built(channel_attention, (4, 4, 32), reduction=16)
        self.assertEqual(model.count_params(), (32 * 2 + 2) + (2 * 32 + 32))
        self.assertEqual(model.get_layer("it_hidden").units, 2)

    def test_fewer_channels_than_the_reduction(self):
        self.assertEqual(built(channel_attention, (4, 4, 8), reduction=16).get_layer("it_hidden").units, 1)


class SpatialAttentionTest(tf.test.TestCase):
    def test_values(self):
        """A kernel whose centre weights the mean by 2 and the maximum by -1."""
        x = np.float32([[[[1, 3], [-2, 0]]]])  # means 2 and -1, maxima 3 and 0
        model = built(spatial_attention, (1, 2, 2))
        kernel = np.zeros((7, 7, 2, 1), np.float32)
        kernel[3, 3, :, 0] = 2, -1
        model.get_layer("it_weights").set_weights([kernel])
        self.assertAllClose(model(x), x * sigmoid([4 - 3, -2 - 0])[:, None], rtol=1e-6)

    def test_neighbours(self):
        """A kernel that takes the mean of the place 3 to the right, which is 0 outside the map."""
        x = np.arange(5, dtype=np.float32).reshape(1, 1, 5, 1)
        model = built(spatial_attention, (1, 5, 1))
        kernel = np.zeros((7, 7, 2, 1), np.float32)
        kernel[3, 6, 0, 0] = 1
        model.get_layer("it_weights").set_weights([kernel])
        self.assertAllClose(model(x)[0, 0, :, 0], x[0, 0, :, 0] * sigmoid([3, 4, 0, 0, 0]), rtol=1e-6)

    def test_parameters(self):
        self.assertEqual(built(spatial_attention, (4, 4, 32)).count_params(), 7 * 7 * 2)


class BothTest(tf.test.TestCase):
    def test_channels_first_then_places(self):
        """With all weights 0, each attention halves the map."""
        model = built(cbam, (4, 4, 8), reduction=4)
        model.set_weights([np.zeros_like(value) for value in model.get_weights()])
        x = np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype(np.float32)
        self.assertAllClose(model(x), x / 4)
        names = [layer.name for layer in model.layers]
        self.assertLess(names.index("it_channels_multiply"), names.index("it_places_weights"))

    def test_every_weight_has_a_gradient(self):
        keras.utils.set_random_seed(1)
        model = built(cbam, (4, 4, 8), reduction=2)
        x = np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype(np.float32)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(model(x) ** 2)
        for variable, gradient in zip(
            model.trainable_variables, tape.gradient(total, [v.value for v in model.trainable_variables]), strict=True
        ):
            self.assertGreater(float(tf.reduce_max(tf.abs(gradient))), 0, variable.path)

    def test_saved_and_loaded_by_plain_keras(self):
        model = built(cbam, (4, 4, 32))
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        loaded = keras.saving.load_model(path, safe_mode=True)
        x = np.random.default_rng(0).normal(size=(2, 4, 4, 32)).astype(np.float32)
        self.assertAllClose(loaded(x), model(x))
        for operation in loaded.operations:
            self.assertTrue(type(operation).__module__.startswith("keras."), operation)

    def test_mixed_precision(self):
        x = np.random.default_rng(0).normal(size=(2, 4, 4, 32)).astype(np.float32)
        exact = built(cbam, (4, 4, 32))
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        half = built(cbam, (4, 4, 32))
        half.set_weights(exact.get_weights())
        self.assertEqual(half.output.dtype, "float16")
        self.assertAllClose(half(x), exact(x), atol=1e-2)


if __name__ == "__main__":
    tf.test.main()
