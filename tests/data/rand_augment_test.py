"""keras_cv's RandAugment with the random numbers of each image."""

import concurrent.futures
import importlib.util
import sys
import unittest
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.data import rand_augment
from dr_tf.data.augmentation import Augmentation
from dr_tf.data.rand_augment import RandAugment
from tests.data.sets import photograph

NEEDS_KERAS_CV = unittest.skipUnless(
    importlib.util.find_spec("keras_cv"), "keras_cv is not installed: pip install 'dr_tf[keras_cv]'"
)

RETINA = photograph(3, 32)


def _augmented(policy, seed):
    return Augmentation(policy=policy).augment(RETINA, np.random.default_rng(seed)).tobytes()


class RandAugmentTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        # As training does: an earlier test may have enabled op determinism, under which keras_cv cannot make a generator.
        tf.random.set_global_generator(tf.random.Generator.from_seed(0))

    @NEEDS_KERAS_CV
    def test_it_depends_on_the_image_s_generator_only(self):
        for policy in (RandAugment(), RandAugment(count=3, magnitude=0.5, geometric=True)):
            alone = [_augmented(policy, seed) for seed in range(8)]
            self.assertGreater(len(set(alone)), 4)
            tf.random.set_seed(5)
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                together = list(pool.map(lambda seed, policy=policy: _augmented(policy, seed), reversed(range(8))))
            self.assertEqual(together[::-1], alone)

    @NEEDS_KERAS_CV
    def test_every_layer_of_keras_cv_is_used(self):
        pipeline = rand_augment._pipeline(0.3, 0.15, True)
        self.assertEqual(len(pipeline.layers), 10)
        for number in range(10):
            result = pipeline(RETINA, [number], np.random.default_rng(0))
            self.assertEqual((result.dtype, result.shape), (np.uint8, RETINA.shape))

    @NEEDS_KERAS_CV
    def test_it_does_not_advance_tensorflow_s_generators(self):
        tf.random.set_seed(1)
        expected = tf.random.uniform(()).numpy()
        tf.random.set_seed(1)
        state = tf.random.get_global_generator().state.numpy()
        _augmented(RandAugment(count=4, geometric=True), 0)
        self.assertEqual(tf.random.uniform(()).numpy(), expected)
        self.assertAllEqual(tf.random.get_global_generator().state, state)

    @NEEDS_KERAS_CV
    def test_mixed_precision_changes_nothing(self):
        expected = _augmented(RandAugment(count=4), 2)
        rand_augment._pipeline.cache_clear()
        keras.mixed_precision.set_global_policy("mixed_float16")
        try:
            self.assertEqual(_augmented(RandAugment(count=4), 2), expected)
        finally:
            keras.mixed_precision.set_global_policy("float32")
            rand_augment._pipeline.cache_clear()

    def test_without_keras_cv_the_error_is_one_line(self):
        rand_augment._pipeline.cache_clear()
        with mock.patch.dict(sys.modules, {"keras_cv": None}), self.assertRaisesRegex(UserError, "needs keras_cv"):
            _augmented(RandAugment(), 0)

    @NEEDS_KERAS_CV
    def test_no_augmentation_at_rate_0(self):
        self.assertEqual(_augmented(RandAugment(rate=0.0), 0), RETINA.tobytes())


if __name__ == "__main__":
    tf.test.main()
