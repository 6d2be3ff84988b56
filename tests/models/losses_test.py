import numpy as np
import tensorflow as tf

from dr_tf.models.losses import Masked

LN3 = np.log(3)


class MaskedLossTest(tf.test.TestCase):
    """Of labels with p = 0.75 that is there, p = 0.75 that is not, one that is not known, and p = 0.5 that is not."""

    targets, logits = np.float32([[1, 0, -1, 0]]), np.float32([[LN3, LN3, 7, 0]])

    def test_by_hand(self):
        expected = (-np.log(0.75) - np.log(0.25) - np.log(0.5)) / 4
        self.assertAllClose(Masked()(self.targets, self.logits), expected)
        focal = (-np.log(0.75) * 0.25**2 - np.log(0.25) * 0.75**2 - np.log(0.5) * 0.5**2) / 4
        self.assertAllClose(Masked(2.0)(self.targets, self.logits), focal)
        self.assertAllClose(Masked(0.0)(self.targets, self.logits), expected)

    def test_what_is_not_known_has_no_gradient(self):
        for gamma in (None, 2.0):
            logits = tf.Variable(self.logits)
            with tf.GradientTape() as tape:
                loss = Masked(gamma)(self.targets, logits)
            gradient = tape.gradient(loss, logits).numpy()[0]
            self.assertEqual(gradient[2], 0)
            self.assertAllEqual(np.sign(gradient), [-1, 1, 0, 1])
            if gamma is None:
                self.assertAllClose(gradient, np.array([-0.25, 0.75, 0, 0.5]) / 4)

    def test_a_patient_of_whom_nothing_is_known_and_weights(self):
        targets, logits = np.concatenate([self.targets, [[-1] * 4]]), np.repeat(self.logits, 2, axis=0)
        once = float(Masked()(self.targets, self.logits))
        self.assertAllClose(Masked()(targets, logits), once / 2)
        self.assertAllClose(Masked()(targets, logits, sample_weight=[3.0, 1.0]), 3 * once / 2)

    def test_certainty_of_any_size_stays_a_number(self):
        for gamma in (None, 2.0):
            logits = tf.Variable(np.float32([[1e4, -1e4, 1e4, -1e4]]))
            with tf.GradientTape() as tape:
                loss = Masked(gamma)(np.float32([[1, 1, 0, 0]]), logits)
            self.assertAllClose(loss, 5e3)
            self.assertTrue(np.isfinite(tape.gradient(loss, logits)).all())


if __name__ == "__main__":
    tf.test.main()
