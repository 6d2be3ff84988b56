"""Metrics of an output that does not decide, the risk of macular edema, and their joint accuracy with the grade."""

import dataclasses
import os
import tempfile
import unittest

import numpy as np

from dr_tf.evaluation.compare import compare
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.metrics.compute import compute_metrics
from dr_tf.evaluation.metrics.other_outputs import other_output_metrics
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.predictions_csv import read_predictions, write_predictions
from dr_tf.evaluation.report.page import report
from dr_tf.evaluation.statistics.proportions import wilson
from dr_tf.grades import DME_RISKS
from tests.evaluation.synthetic_predictions import make_graded

METRICS = ("joint_accuracy", "dme_accuracy", "dme_quadratic_kappa")


def make_with_edema(n=6, **changes):
    """Make predictions; of every six: both right, only the risk, only the grade, both; unknown risk; unknown grade."""
    wrong = np.arange(n) % 6 == 1
    made = make_graded(n, **changes)
    truth = np.where(np.arange(n) % 6 == 5, -1, made.truth)
    decided = np.where(wrong, (made.truth + 1) % 5, made.truth)
    risks = {
        "other_truth": {"dme": np.resize([0, 1, 2, 2, -1, 0], n)},
        "other_predicted": {"dme": np.resize([0, 1, 0, 2, 0, 0], n)},
    }
    return dataclasses.replace(made, truth=truth, predicted=decided, **risks)


class MetricsTest(unittest.TestCase):
    def test_by_hand(self):
        found = compute_metrics(make_with_edema(), only=METRICS, bootstrap_samples=50)
        self.assertEqual(found["joint_accuracy"]["value"], 2 / 4)
        self.assertEqual((found["dme_accuracy"]["value"], found["dme_accuracy"]["n"]), (4 / 5, 5))
        np.testing.assert_allclose((found["joint_accuracy"]["low"], found["joint_accuracy"]["high"]), wilson(2, 4))
        # Disagreement: 1 of 5 by two risks, 4 / 5. By chance: truth 2, 1, 2 and decided 3, 1, 1 of 5.
        by_chance = (2 * (1 * 1 + 1 * 4) + 1 * (3 * 1 + 1 * 1) + 2 * (3 * 4 + 1 * 1)) / 25
        self.assertAlmostEqual(found["dme_quadratic_kappa"]["value"], 1 - (4 / 5) / by_chance)

    def test_several_photographs_of_a_patient_are_drawn_together(self):
        predicted = np.random.default_rng(0).integers(3, size=120)
        predictions = dataclasses.replace(make_with_edema(120, eyes=2), other_predicted={"dme": predicted})
        found = compute_metrics(predictions, only=METRICS, bootstrap_samples=200)
        for name in METRICS:
            self.assertIn("patient bootstrap, 200 bootstrap samples", found[name]["method"])
            self.assertLess(found[name]["low"], found[name]["value"])
            self.assertGreater(found[name]["high"], found[name]["value"])
        estimates, statistics = other_output_metrics(predictions, None)
        once = {k: v for statistic in statistics for k, v in statistic(np.ones((1, 60), np.float32)).items()}
        for name in METRICS:
            self.assertAlmostEqual(once[name][0], estimates[name]().value)

    def test_auroc_of_two_classes(self):
        """Positive with 0.9 and 0.4, negative with 0.5 and 0.1: three of four pairs are in order."""
        made = dataclasses.replace(
            make_graded(5),
            other_truth={"referable": np.array([1, 1, 0, 0, -1])},
            other_predicted={"referable": np.array([1, 0, 1, 0, 1])},
            other_p_positive={"referable": np.array([0.9, 0.4, 0.5, 0.1, 1.0])},
        )
        found = compute_metrics(made, bootstrap_samples=20)
        self.assertEqual((found["referable_auroc"]["value"], found["referable_auroc"]["n"]), (3 / 4, 4))
        one_class = dataclasses.replace(made, other_truth={"referable": np.array([1, 1, 1, 1, -1])})
        self.assertNotIn("referable_auroc", compute_metrics(one_class, bootstrap_samples=20))
        with tempfile.TemporaryDirectory() as folder:
            write_predictions(os.path.join(folder, "predictions.csv"), made)
            again = read_predictions(os.path.join(folder, "predictions.csv"))
        np.testing.assert_array_equal(again.other_p_positive["referable"], made.other_p_positive["referable"])

    def test_none_without_such_an_output_or_label(self):
        unknown = dataclasses.replace(make_with_edema(), other_truth={"dme": np.full(6, -1)})
        for predictions in (make_graded(6), unknown):
            self.assertFalse(set(METRICS) & set(compute_metrics(predictions, bootstrap_samples=10)))
        ungraded = dataclasses.replace(make_with_edema(), truth=np.full(6, -1))
        self.assertEqual(set(METRICS) & set(compute_metrics(ungraded, bootstrap_samples=10)), set(METRICS[1:]))

    def test_two_runs_are_compared(self):
        found = compare(
            make_with_edema(60),
            dataclasses.replace(make_with_edema(60), other_predicted={"dme": np.zeros(60, int)}),
            bootstrap_samples=50,
        )
        self.assertAlmostEqual(found["metrics"]["dme_accuracy"]["value"], 2 / 5 - 4 / 5)


class WrittenTest(unittest.TestCase):
    def test_predictions_come_back(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "predictions.csv")
            write_predictions(path, make_with_edema())
            found = read_predictions(path)
        np.testing.assert_array_equal(found.other_truth["dme"], make_with_edema().other_truth["dme"])
        np.testing.assert_array_equal(found.other_predicted["dme"], make_with_edema().other_predicted["dme"])
        joined = Predictions.concatenate([found.take(np.arange(3)), found.take(np.arange(3, 6))])
        np.testing.assert_array_equal(joined.other_truth["dme"], found.other_truth["dme"])
        self.assertEqual(Predictions.concatenate([found, make_graded(3, ids=["a", "b", "c"])]).other_truth, {})

    def test_the_report_has_a_section_where_there_are_labels(self):
        for predictions, expected in ((make_with_edema(60), True), (make_graded(60), False)):
            metrics = measure(predictions, bootstrap_samples=20)
            self.assertEqual("dme" in metrics["confusion"], expected)
            page = report(predictions, metrics | {"other_outputs": {"dme": DME_RISKS} if expected else {}})
            for title in ("Risk of macular edema", "Joint accuracy", "DME near the fovea"):
                self.assertEqual(title in page, expected)
        self.assertEqual(
            measure(make_with_edema(), bootstrap_samples=10)["confusion"]["dme"], [[2, 0, 0], [0, 1, 0], [1, 0, 1]]
        )


if __name__ == "__main__":
    unittest.main()
