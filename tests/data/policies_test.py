"""keras_cv's RandAugment under the random numbers of a photograph."""

import concurrent.futures
import sys
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.data import rand_augment
from dr_tf.data.augmentation import Augmentation
from dr_tf.data.rand_augment import RandAugment
from tests.data.sets import photograph

RETINA = photograph(3, 32)


def _look(policy, seed):
    return Augmentation(policy=policy).augment(RETINA, np.random.default_rng(seed)).tobytes()


class RandAugmentTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        # As training does it: an earlier test may have left determinism on, under which keras_cv can make none of its own.
        tf.random.set_global_generator(tf.random.Generator.from_seed(0))

    def test_it_follows_from_the_photograph_s_numbers_alone(self):
        for policy in (RandAugment(), RandAugment(count=3, magnitude=0.5, geometric=True)):
            alone = [_look(policy, seed) for seed in range(8)]
            self.assertGreater(len(set(alone)), 4)
            tf.random.set_seed(5)
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                together = list(pool.map(lambda seed, policy=policy: _look(policy, seed), reversed(range(8))))
            self.assertEqual(together[::-1], alone)

    def test_every_layer_of_keras_cv_is_used(self):
        pipeline = rand_augment._pipeline(0.3, 0.15, True)
        self.assertEqual(len(pipeline.layers), 10)
        for number in range(10):
            result = pipeline(RETINA, [number], np.random.default_rng(0))
            self.assertEqual((result.dtype, result.shape), (np.uint8, RETINA.shape))

    def test_it_does_not_touch_the_random_numbers_of_training(self):
        tf.random.set_seed(1)
        expected = tf.random.uniform(()).numpy()
        tf.random.set_seed(1)
        state = tf.random.get_global_generator().state.numpy()
        _look(RandAugment(count=4, geometric=True), 0)
        self.assertEqual(tf.random.uniform(()).numpy(), expected)
        self.assertAllEqual(tf.random.get_global_generator().state, state)

    def test_mixed_precision_changes_nothing(self):
        expected = _look(RandAugment(count=4), 2)
        rand_augment._pipeline.cache_clear()
        keras.mixed_precision.set_global_policy("mixed_float16")
        try:
            self.assertEqual(_look(RandAugment(count=4), 2), expected)
        finally:
            keras.mixed_precision.set_global_policy("float32")
            rand_augment._pipeline.cache_clear()

    def test_without_keras_cv_one_line(self):
        rand_augment._pipeline.cache_clear()
        with mock.patch.dict(sys.modules, {"keras_cv": None}), self.assertRaisesRegex(UserError, "needs keras_cv"):
            _look(RandAugment(), 0)

    def test_no_augmentation_at_rate_nought(self):
        self.assertEqual(_look(RandAugment(rate=0.0), 0), RETINA.tobytes())


if __name__ == "__main__":
    tf.test.main()
