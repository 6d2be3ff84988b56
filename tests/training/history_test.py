"""Best epoch, early stopping and CSV of a history."""

import unittest

from dr_tf.training.history import best_epoch, history_csv, is_out_of_patience

RISING = ("val_kappa", "max")
HISTORY = [{"val_kappa": v} for v in (0.1, 0.5, 0.5, float("nan"), 0.4)]


class HistoryTest(unittest.TestCase):
    def test_the_best_epoch_is_the_first_of_equals_and_never_nan(self):
        self.assertEqual(best_epoch(HISTORY, RISING), 1)
        self.assertEqual(best_epoch(HISTORY, ("val_kappa", "min")), 0)

    def test_patience_counts_epochs_without_improvement(self):
        self.assertFalse(is_out_of_patience(HISTORY[:4], RISING, 3))
        self.assertTrue(is_out_of_patience(HISTORY, RISING, 3))
        self.assertFalse(is_out_of_patience(HISTORY, RISING, None))

    def test_csv_has_a_row_per_epoch(self):
        self.assertEqual(history_csv([{"loss": 0.5}, {"loss": 0.25}]), "epoch,loss\n1,0.5\n2,0.25\n")
