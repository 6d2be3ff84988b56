"""The masked loss: values and gradients computed by hand."""

import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.models.heads.multi_label import MultiLabel
from dr_tf.models.losses import MaskedBinaryCrossentropy

LN3 = np.log(3)


class MaskedBinaryCrossentropyTest(tf.test.TestCase):
    """Four labels: present with p = 0.75, absent with p = 0.75, unknown, and absent with p = 0.5."""

    targets, logits = np.float32([[1, 0, -1, 0]]), np.float32([[LN3, LN3, 7, 0]])
    p_t, sign = (
        np.array([0.75, 0.25, 1, 0.5]),
        np.array([1, -1, 0, -1]),
    )  # of the true value; d log(p_t) / dz = sign (1 - p_t)

    def test_values(self):
        expected = (-np.log(0.75) - np.log(0.25) - np.log(0.5)) / 4
        self.assertAllClose(MaskedBinaryCrossentropy()(self.targets, self.logits), expected)
        focal = (-np.log(0.75) * 0.25**2 - np.log(0.25) * 0.75**2 - np.log(0.5) * 0.5**2) / 4
        self.assertAllClose(MaskedBinaryCrossentropy(2.0)(self.targets, self.logits), focal)
        self.assertAllClose(MaskedBinaryCrossentropy(0.0)(self.targets, self.logits), expected)

    def test_mean_of_weighted_cross_entropy_and_focal_loss(self):
        loss = MaskedBinaryCrossentropy(2.0, alpha=0.3, focal_share=0.25, positive_weights=[4.0, 9.0, 9.0, 9.0])
        cross_entropy = -4 * np.log(0.75) - np.log(0.25) - np.log(0.5)
        focal = -0.3 * np.log(0.75) * 0.25**2 - 0.7 * np.log(0.25) * 0.75**2 - 0.7 * np.log(0.5) * 0.5**2
        self.assertAllClose(loss(self.targets, self.logits), (0.75 * cross_entropy + 0.25 * focal) / 4)

    def test_weights_of_the_head(self):
        """Positive examples of the labels: 1, 2 and none of 4; one of the second label is unknown."""
        true_classes = np.full((4, 8), 0)
        true_classes[:, 0], true_classes[:, 1] = [1, 0, 0, 0], [1, 1, 0, -1]
        weighted = MultiLabel(positive_weights="balanced").training_loss(true_classes)
        fixed = MultiLabel(positive_weights=(3.0, 0.5, *[4.0] * 6)).loss()
        targets, logits = np.float32([[1] * 8]), np.float32([np.arange(8)])
        self.assertAllClose(weighted(targets, logits), fixed(targets, logits))
        plain = MultiLabel(positive_weights="balanced").loss()  # no examples to balance by
        self.assertAllClose(plain(targets, logits), MaskedBinaryCrossentropy()(targets, logits))

    def test_wrong_settings(self):
        with self.assertRaisesRegex(UserError, "focal_alpha or focal_share needs a focal_gamma"):
            MultiLabel(focal_alpha=0.3)
        with self.assertRaisesRegex(UserError, "has 2 numbers, not one for each of the 8 labels N D"):
            MultiLabel(positive_weights=(1.0, 2.0))

    def test_gradients(self):
        """The focal loss -(1 - p_t)^2 log(p_t) has 2 (1 - p_t) p_t log(p_t) - (1 - p_t)^2 as its slope in log(p_t)."""
        focal = 2 * (1 - self.p_t) * self.p_t * np.log(self.p_t) - (1 - self.p_t) ** 2
        for gamma, slope in ((None, -1), (2.0, focal)):
            logits = tf.Variable(self.logits)
            with tf.GradientTape() as tape:
                loss = MaskedBinaryCrossentropy(gamma)(self.targets, logits)
            with self.subTest(gamma=gamma):
                self.assertAllClose(tape.gradient(loss, logits), [slope * self.sign * (1 - self.p_t) / 4])

    def test_example_without_known_labels_and_sample_weights(self):
        targets, logits = np.concatenate([self.targets, [[-1] * 4]]), np.repeat(self.logits, 2, axis=0)
        loss = MaskedBinaryCrossentropy()
        once = float(loss(self.targets, self.logits))
        self.assertAllClose(loss(targets, logits), once / 2)
        self.assertAllClose(loss(targets, logits, sample_weight=[3.0, 1.0]), 3 * once / 2)

    def test_extreme_logits_are_finite(self):
        for gamma in (None, 2.0):
            logits = tf.Variable(np.float32([[1e4, -1e4, 1e4, -1e4]]))
            with tf.GradientTape() as tape:
                loss = MaskedBinaryCrossentropy(gamma)(np.float32([[1, 1, 0, 0]]), logits)
            self.assertAllClose(loss, 5e3)
            self.assertTrue(np.isfinite(tape.gradient(loss, logits)).all())


if __name__ == "__main__":
    tf.test.main()
