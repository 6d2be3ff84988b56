"""Expected calibration error against hand-computed values."""

import unittest

from dr_tf.inference.calibration_error import expected_calibration_error


class ExpectedCalibrationErrorTest(unittest.TestCase):
    def test_by_hand(self):
        # Bins of one tenth: {0.12, 0.18} with outcomes 0, 1 and {0.95} with 0; gaps 0.7 and 0.95 of 3 photographs.
        result = expected_calibration_error([0.12, 0.18, 0.95], [0, 1, 0], bins=10)
        self.assertAlmostEqual(result, (0.7 + 0.95) / 3)

    def test_certain_and_right_is_no_error(self):
        self.assertEqual(expected_calibration_error([0.0, 1.0, 1.0], [0, 1, 1]), 0)
        self.assertIsNone(expected_calibration_error([], []))


if __name__ == "__main__":
    unittest.main()
