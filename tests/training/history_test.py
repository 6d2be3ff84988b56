import unittest

from dr_tf.training.history import as_csv, best_epoch, out_of_patience

RISING = ("val_kappa", "max")
HISTORY = [{"val_kappa": v} for v in (0.1, 0.5, 0.5, float("nan"), 0.4)]


class HistoryTest(unittest.TestCase):
    def test_best_is_the_first_of_equals_and_never_nan(self):
        self.assertEqual(best_epoch(HISTORY, RISING), 1)
        self.assertEqual(best_epoch(HISTORY, ("val_kappa", "min")), 0)

    def test_patience_counts_epochs_without_a_better_figure(self):
        self.assertFalse(out_of_patience(HISTORY[:4], RISING, 3))
        self.assertTrue(out_of_patience(HISTORY, RISING, 3))
        self.assertFalse(out_of_patience(HISTORY, RISING, None))

    def test_csv_has_a_row_an_epoch(self):
        self.assertEqual(as_csv([{"loss": 0.5}, {"loss": 0.25}]), "epoch,loss\n1,0.5\n2,0.25\n")
