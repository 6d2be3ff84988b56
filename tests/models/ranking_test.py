"""The ranking loss: values and gradients computed by hand, unknown grades, and every head with ordered classes."""

import keras
import numpy as np
import tensorflow as tf

from dr_tf.models.heads import HEADS
from dr_tf.models.heads.binary import Binary
from dr_tf.models.heads.edema import Edema
from dr_tf.models.heads.exclusive import ExclusiveClasses
from dr_tf.models.heads.softmax import Softmax
from dr_tf.models.losses import pairwise_ranking_losses, slope_over_classes

LN3 = np.log(3)
GRADES = np.array([3, 0, -1, 1])
SCORES = np.float32(
    [0, LN3, 5, LN3]
)  # pairs: 3 above 0, with a distance of 3 and -ln 3; 3 above 1: 2, -ln 3; 1 above 0: 1, 0
VALUE = (3 * np.log(4) + 2 * np.log(4) + np.log(2)) / 6  # log(1 + exp(ln 3)) = ln 4


def gradient_of(function, values):
    values = tf.Variable(np.float32(values))
    with tf.GradientTape() as tape:
        result = function(values)
    return result, tape.gradient(result, values)


class PairsTest(tf.test.TestCase):
    def test_value_and_gradient(self):
        """The slope of log(1 + exp(-d)) in d is -sigmoid(-d): -3/4 at d = -ln 3, and -1/2 at 0."""
        value, gradient = gradient_of(lambda s: tf.reduce_mean(pairwise_ranking_losses(GRADES, s)), SCORES)
        self.assertAllClose(value, VALUE)
        pairs = np.array([[-3 * 0.75, 3 * 0.75, 0, 0], [-2 * 0.75, 0, 0, 2 * 0.75], [0, 0.5, 0, -0.5]])
        self.assertAllClose(gradient, pairs.sum(axis=0) / 6)

    def test_each_pair_is_shared_by_its_examples(self):
        losses = pairwise_ranking_losses(GRADES, SCORES)
        self.assertAllClose(
            losses, np.array([5 * np.log(4), 3 * np.log(4) + np.log(2), 0, 2 * np.log(4) + np.log(2)]) * 4 / 12
        )

    def test_a_batch_without_pairs(self):
        for grades in ([2, 2, 2], [-1, -1, 3], [-1, -1, -1]):
            value, gradient = gradient_of(
                lambda s, grades=grades: tf.reduce_mean(pairwise_ranking_losses(np.array(grades), s)), [1, 2, 3]
            )
            self.assertAllEqual([value, *gradient], [0, 0, 0, 0])

    def test_extreme_scores_are_finite(self):
        value, gradient = gradient_of(
            lambda s: tf.reduce_mean(pairwise_ranking_losses(np.array([1, 0]), s)), [-1e4, 1e4]
        )
        self.assertAllClose(value, 2e4)
        self.assertAllClose(gradient, [-1, 1])

    def test_the_score_is_the_slope_of_the_logits(self):
        logits = np.float32([[0, 1, 2, 3, 4], [5, 5, 5, 5, 5], [9, 0, 0, 0, -9]])
        self.assertAllClose(slope_over_classes(logits), [1, 0, (-2 * 9 - 2 * 9) / 10])
        self.assertAllClose(slope_over_classes(logits), [np.polyfit(range(5), row, 1)[0] for row in logits], atol=1e-5)


class HeadTest(tf.test.TestCase):
    def test_it_adds_to_the_loss_of_the_head(self):
        """Three risks with logits 0, a, 2 a have a slope of a, so the scores are those above; the weight is 0.5."""
        logits, targets = SCORES[:, None] * np.float32([0, 1, 2]), np.eye(3, dtype=np.float32)[[2, 0, 0, 1]]
        targets[2] = 0  # unknown
        mask = np.float32([1, 1, 0, 1])
        for options in ({}, {"focal_gamma": 2.0}):
            own = Edema(**options).loss()(targets, logits, sample_weight=mask)
            ranking = (2 * np.log(4) + np.log(4) + np.log(2)) / 4
            both = Edema(ranking=0.5, **options).training_loss()(targets, logits, sample_weight=mask)
            self.assertAllClose(both, own + 0.5 * ranking, msg=str(options))

    def test_every_head_with_ordered_classes_has_it(self):
        """Two examples whose order is wrong: the gradient of the ranking loss moves their scores towards each other."""
        for head in (cls() for cls in HEADS.values() if issubclass(cls, ExclusiveClasses)):
            targets = head.targets({head.field: np.array([2, 0])})
            outputs = np.random.default_rng(0).normal(size=(2, head.outputs))
            losses, gradients = zip(*(
                gradient_of(lambda z, one=one, targets=targets: one.training_loss()(targets, z), outputs)
                for one in (head, type(head)(ranking=1.0))
            ), strict=True)  # fmt: skip
            with self.subTest(head.name):
                self.assertGreater(losses[1], losses[0])
                added = (gradients[1] - gradients[0]).numpy()
                before, after = (
                    slope_over_classes(head.class_logits(np.float32(z))) for z in (outputs, outputs - added)
                )
                self.assertGreater(after[0] - after[1], before[0] - before[1])

    def test_without_a_weight_nothing_changes(self):
        self.assertIs(type(Softmax().training_loss()), keras.losses.CategoricalCrossentropy)
        self.assertIs(type(Binary().training_loss()), keras.losses.BinaryCrossentropy)
        self.assertEqual(HEADS["softmax"](**Softmax(ranking=0.5).get_config()), Softmax(ranking=0.5))


if __name__ == "__main__":
    tf.test.main()
