"""The fused batch norm against that of Keras."""

import keras
import numpy as np
import tensorflow as tf

from dr_tf.models.layers.batch_normalization import FusedBatchNormalization
from dr_tf.models.layers.replace_layers import to_project_layers

SHAPE = (4, 6, 5, 3)


def network(dtype="float32", shape=SHAPE, **options):
    inputs = keras.Input(shape[1:])
    layer = keras.layers.BatchNormalization(momentum=0.8, dtype=dtype, name="bn", **options)
    return keras.Model(inputs, layer(inputs))


def pair(**options):
    """A plain and a fused network with the same random weights, so that an error in any of them has an effect."""
    plain = network(**options)
    rng = np.random.default_rng(0)
    for variable in plain.variables:
        variable.assign(rng.uniform(0.5, 2.0, variable.shape))
    return plain, to_project_layers(plain)


def batches(n=3, shape=SHAPE):
    rng = np.random.default_rng(1)
    return [rng.normal(2, 3, shape).astype(np.float32) for _ in range(n)]


def step(model, x):
    """The output, and the gradients of a randomly weighted sum of it with respect to the input, gamma and beta."""
    weights = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        x = tf.constant(x)
        tape.watch(x)
        y = model(x, training=True)
        total = tf.reduce_sum(tf.cast(y, tf.float32) * weights)
    return [y, *tape.gradient(total, [x, *[v.value for v in model.trainable_variables]])]


class FusedTest(tf.test.TestCase):
    def assert_same(self, ones, others, tolerance=2e-5):
        for one, other in zip(ones, others, strict=True):
            self.assertEqual(one.dtype, other.dtype)
            self.assertAllClose(tf.cast(one, tf.float32), tf.cast(other, tf.float32), atol=tolerance, rtol=tolerance)

    def test_the_fused_op_runs(self):
        _, fused = pair()
        operations = {o.type for o in tf.function(lambda x: fused(x, training=True)).get_concrete_function(
            tf.TensorSpec(SHAPE)).graph.get_operations()}  # fmt: skip
        self.assertIn("FusedBatchNormV3", operations)

    def test_outputs_gradients_and_statistics(self):
        for options in ({}, {"scale": False}, {"center": False}, {"scale": False, "center": False}, {"epsilon": 1e-6}):
            with self.subTest(**options):
                plain, fused = pair(**options)
                for x in batches():
                    self.assert_same(step(plain, x), step(fused, x))
                self.assert_same(plain.get_weights(), fused.get_weights())
                self.assert_same([plain(x)], [fused(x)])

    def test_moving_variance_by_hand(self):
        """1, 2, 3, 4 have mean 2.5 and variance 1.25, dividing by n like Keras."""
        model = to_project_layers(network(shape=(1, 2, 2, 1)))
        model(np.array([1, 2, 3, 4], np.float32).reshape(1, 2, 2, 1), training=True)
        layer = model.get_layer("bn")
        self.assertAllClose(layer.moving_mean, [0.2 * 2.5])
        self.assertAllClose(layer.moving_variance, [0.8 + 0.2 * 1.25])

    def test_a_single_value(self):
        plain, fused = pair(shape=(1, 1, 1, 3))
        x = batches(1, (1, 1, 1, 3))[0]
        plain(x, training=True), fused(x, training=True)
        self.assert_same(plain.get_weights(), fused.get_weights())

    def test_half_precision(self):
        for policy, tolerance in (("mixed_float16", 4e-3), ("mixed_bfloat16", 4e-2)):
            with self.subTest(policy):
                plain, fused = pair(dtype=policy)
                for x in batches():
                    output, *gradients = step(plain, x)
                    fused_output, *fused_gradients = step(fused, x)
                    self.assert_same([output], [fused_output], tolerance)
                    self.assert_same(gradients, fused_gradients, 10 * tolerance)
                self.assert_same(plain.get_weights(), fused.get_weights(), 1e-5)

    def test_under_xla(self):
        plain, fused = pair()
        compiled = tf.function(lambda x: fused(x, training=True), jit_compile=True)
        for x in batches():
            self.assert_same([plain(x, training=True)], [compiled(x)])
        self.assert_same(plain.get_weights(), fused.get_weights())

    def test_trained_by_fit_on_two_devices(self):
        plain, fused = (self._fitted_on_two_devices(fuse) for fuse in (lambda model: model, to_project_layers))
        self.assert_same(plain, fused)

    def _fitted_on_two_devices(self, fuse):
        devices = [device.name for device in two_processors()]
        with tf.distribute.MirroredStrategy(devices).scope():
            model = fuse(network())
            model.compile("sgd", "mse", jit_compile=False)
        model.fit(batches(1, (8, 6, 5, 3))[0], batches(1, (8, 6, 5, 3))[0] ** 2, batch_size=4, epochs=2, verbose=0)
        return model.get_weights()


class KerasCodeTest(tf.test.TestCase):
    """Keras' own code runs where the fused op cannot."""

    def assert_same_as_keras(self, shape=SHAPE, x=None, **options):
        plain, fused = pair(shape=shape, **options)
        x = batches(1, shape)[0] if x is None else x
        self.assertAllEqual(plain(x, training=True), fused(x, training=True))
        self.assertAllEqual(plain.get_weights()[-1], fused.get_weights()[-1])

    def test_other_axis_rank_and_precision(self):
        self.assert_same_as_keras(axis=1)
        self.assert_same_as_keras(shape=(4, 3))
        self.assert_same_as_keras(shape=(4, 5, 3))
        self.assert_same_as_keras(dtype="float64")

    def test_synchronized_and_renorm(self):
        self.assert_same_as_keras(synchronized=True)
        self.assert_same_as_keras(renorm=True)

    def test_masked(self):
        mask = np.arange(4 * 6 * 5).reshape(4, 6, 5) % 3 > 0
        (x,) = batches(1)
        plain, fused = (model.get_layer("bn") for model in pair())
        self.assertAllEqual(plain(x, training=True, mask=mask), fused(x, training=True, mask=mask))

    def test_frozen(self):
        plain, fused = pair()
        plain.trainable = fused.trainable = False
        (x,) = batches(1)
        before = fused.get_weights()
        self.assertAllEqual(plain(x, training=True), fused(x, training=True))
        self.assertAllEqual(before[-1], fused.get_weights()[-1])


class WeightsTest(tf.test.TestCase):
    def test_weights_are_interchangeable(self):
        plain, fused = pair()
        self.assertEqual([v.path for v in plain.variables], [v.path for v in fused.variables])
        fused(batches(1)[0], training=True)
        for one, other in ((fused, plain), (plain, fused)):
            other.set_weights(one.get_weights())
            self.assertAllEqual(one.get_weights()[-1], other.get_weights()[-1])

    def test_a_clone_is_fused_too(self):
        clone = keras.models.clone_model(pair()[1])
        self.assertIs(type(clone.get_layer("bn")), FusedBatchNormalization)


def two_processors():
    """Two logical CPUs, unless an earlier test has initialized TensorFlow with another number."""
    physical = tf.config.list_physical_devices("CPU")[0]
    if tf.config.get_logical_device_configuration(physical) is None:
        try:
            tf.config.set_logical_device_configuration(physical, [tf.config.LogicalDeviceConfiguration()] * 2)
        except RuntimeError:
            return tf.config.list_logical_devices("CPU")
    return tf.config.list_logical_devices("CPU")


if __name__ == "__main__":
    tf.test.main()
