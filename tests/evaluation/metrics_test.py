"""Metrics against hand-computed values and scikit-learn; confidence intervals by the method that fits the patients."""

import tracemalloc
import unittest

import numpy as np
from sklearn import metrics

from dr_tf.evaluation.measure import operating_point_metrics
from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.compute import compute_metrics, estimates_and_statistics
from dr_tf.evaluation.statistics.bootstrap import RankStatistics, SensitivityAtSpecificity, bootstrap, draw_weights
from tests.evaluation.synthetic_predictions import make_graded, make_labelled

# 10 photographs by hand; decisions are classes, probabilities put 0.6 on the decision and 0.1 on each other class.
TRUTH = np.array([0, 0, 0, 0, 1, 1, 2, 2, 3, 4])
DECIDED = np.array([0, 0, 0, 1, 1, 2, 2, 0, 3, 3])


def by_hand(**changes):
    probabilities = np.full((10, 5), 0.1)
    probabilities[np.arange(10), DECIDED] = 0.6
    p_positive = probabilities[:, 2:].sum(axis=1)
    fields = {
        "truth": TRUTH, "predicted": DECIDED, "probabilities": probabilities, "truth_positive": TRUTH >= 2,
        "p_positive": p_positive, "refer": p_positive > 0.5, "threshold": 0.5,
    }  # fmt: skip
    return make_graded(10, **fields | changes)


class ByHandTest(unittest.TestCase):
    def _values(self, **options):
        return {
            name: metric["value"]
            for name, metric in compute_metrics(by_hand(), bootstrap_samples=50, **options).items()
        }

    def test_agreement(self):
        values = self._values()
        self.assertAlmostEqual(values["accuracy"], 6 / 10)
        self.assertAlmostEqual(values["balanced_accuracy"], (3 / 4 + 1 / 2 + 1 / 2 + 1 + 0) / 5)
        self.assertAlmostEqual(values["mae"], (1 + 1 + 2 + 1) / 10)
        self.assertAlmostEqual(values["off_by_one"], 9 / 10)
        # Squared distances: 1 + 1 + 4 + 1 = 7. By chance, of margins 4 2 2 1 1 and 4 2 2 2 0: (4 x 28 + 2 x 14 + 2 x 20 +
        # 1 x 46 + 1 x 92) / 10 = 31.8.
        self.assertAlmostEqual(values["quadratic_kappa"], 1 - 7 / 31.8)
        each = [6 / 8, 2 / 4, 2 / 4, 2 / 3, 0]
        self.assertAlmostEqual(values["f1_macro"], sum(each) / 5)
        self.assertAlmostEqual(values["f1_weighted"], (4 * each[0] + 2 * each[1] + 2 * each[2] + each[3]) / 10)
        self.assertAlmostEqual(values["f1/severe NPDR"], 2 / 3)
        self.assertAlmostEqual(values["precision/severe NPDR"], 1 / 2)
        self.assertIsNone(values["precision/proliferative DR"])  # never predicted
        self.assertEqual(values["recall/proliferative DR"], 0)

    def test_decision(self):
        values = self._values(prevalence=0.1)
        # Referred: decided 2, 2, 3, 3; of them truly positive 2, 3, 4; positives are 2, 2, 3, 4.
        self.assertAlmostEqual(values["sensitivity"], 3 / 4)
        self.assertAlmostEqual(values["specificity"], 5 / 6)
        self.assertAlmostEqual(values["balanced_accuracy_positive"], (3 / 4 + 5 / 6) / 2)
        self.assertAlmostEqual(values["ppv"], 3 / 4)
        self.assertAlmostEqual(values["npv"], 5 / 6)
        self.assertAlmostEqual(values["ppv_at_prevalence"], 0.75 * 0.1 / (0.75 * 0.1 + 0.9 / 6))
        self.assertAlmostEqual(values["npv_at_prevalence"], 5 / 6 * 0.9 / (5 / 6 * 0.9 + 0.25 * 0.1))
        self.assertAlmostEqual(values["auroc"], (3 * 5 + 0.5 * (3 * 1 + 1 * 5)) / 24)

    def test_at_each_operating_point(self):
        points = {"none": np.zeros(10, bool), "as decided": by_hand().refer, "all": np.ones(10, bool)}
        found = operating_point_metrics(by_hand(operating_points=points), bootstrap_samples=50)
        values = {name: [of[key]["value"] for key in ("sensitivity", "specificity")] for name, of in found.items()}
        self.assertEqual(values, {"none": [0, 1], "as decided": [3 / 4, 5 / 6], "all": [1, 0]})
        self.assertEqual(found["all"]["balanced_accuracy_positive"]["value"], 0.5)
        self.assertEqual(
            found["as decided"]["sensitivity"], compute_metrics(by_hand(), bootstrap_samples=50)["sensitivity"]
        )

    def test_probabilities(self):
        values = self._values()
        self.assertAlmostEqual(values["brier"], (6 * (0.16 + 4 * 0.01) + 4 * (0.36 + 0.81 + 3 * 0.01)) / 10)
        self.assertAlmostEqual(values["nll"], -(6 * np.log(0.6) + 4 * np.log(0.1)) / 10)
        self.assertAlmostEqual(values["ece"], 0)  # 0.6 predicted, 6 of 10 right
        # 0.8 predicted for 4, of which 3 are positive; 0.3 for 6, of which 1 is.
        self.assertAlmostEqual(values["ece_positive"], (4 * 0.05 + 6 * (0.3 - 1 / 6)) / 10)

    def test_odir_score_by_hand(self):
        truth = np.zeros((2, 8), int)
        truth[0, 0] = truth[1, 1] = truth[1, 2] = 1
        probabilities = np.full((2, 8), 0.1)
        probabilities[0, 0], probabilities[1, 1], probabilities[1, 2], probabilities[0, 3] = 0.9, 0.8, 0.4, 0.6
        predictions = make_labelled(2, truth=truth, probabilities=probabilities)
        values = {name: metric["value"] for name, metric in compute_metrics(predictions, bootstrap_samples=20).items()}
        # Of 16: 2 true positives, 1 missed, 1 false, 12 right. Chance: 3/16 x 3/16 + 13/16 x 13/16 = 178/256.
        kappa, f1 = (14 / 16 - 178 / 256) / (1 - 178 / 256), 14 / 16
        auc = (13 + 13 + 12) / 39
        self.assertAlmostEqual(values["odir_kappa"], kappa)
        self.assertAlmostEqual(values["odir_f1"], f1)
        self.assertAlmostEqual(values["odir_auc"], auc)
        self.assertAlmostEqual(values["odir_score"], (kappa + f1 + auc) / 3)

    def test_sensitivity_at_specificity_by_hand(self):
        """Of ten negatives one may lie above the threshold: between 0.7 and 0.6 are two, so 0.8, 0.75 and 0.7 are found."""
        scores = np.array([0.8, 0.75, 0.7, 0.3, 0.72, 0.6, 0.6, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
        truth = np.repeat([1, 0], [4, 10])
        of = {"codes": np.arange(14), "specificity": 0.9, "name": "x"}
        statistic = SensitivityAtSpecificity(scores, truth, **of)
        once, doubled = np.ones(14), np.ones(14)
        doubled[4] = 2  # the negative at 0.72 is drawn twice: only 0.8 and 0.75 are above it
        no_negatives = truth.astype(float)
        values = statistic(np.stack([once, doubled, no_negatives, 1 - no_negatives]))["x"]
        np.testing.assert_allclose(values, [3 / 4, 2 / 4, np.nan, np.nan])
        tied = SensitivityAtSpecificity(np.full(14, 0.5), truth, **of)  # all above the threshold, or none
        self.assertEqual(tied(np.ones((1, 14)))["x"][0], 0)

    def test_at_prevalence_published(self):
        """Sensitivity 0.95 and specificity 0.9 at 1 %: 8.8 % of the referred are ill."""
        ppv, npv = confusion.at_prevalence(0.95, 0.9, 0.01)
        self.assertAlmostEqual(float(ppv), 0.0876, places=4)
        self.assertAlmostEqual(float(npv), 0.99944, places=5)


class BootstrapTest(unittest.TestCase):
    """Bootstrap statistics equal scikit-learn's metrics, with weights of 1 and with any weights."""

    def _assert_agrees(self, predictions):
        estimates, statistics = estimates_and_statistics(predictions, 0.1)
        ones = np.ones((1, predictions.patient_codes.max() + 1), np.float32)
        values = {name: value[0] for statistic in statistics for name, value in statistic(ones).items()}
        for name, estimate in ((name, make()) for name, make in estimates.items()):
            if np.isfinite(estimate.value):
                self.assertAlmostEqual(values[name], estimate.value, places=6, msg=name)

    def test_every_statistic_equals_its_estimate(self):
        rng = np.random.default_rng(0)
        extra = {"p_positive_uncalibrated": rng.random(300), "prediction_intervals": np.tile([0, 2], (300, 1))}
        self._assert_agrees(make_graded(300, eyes=2, uncalibrated=make_graded(300, heat=2).probabilities, **extra))
        self._assert_agrees(make_graded(40))
        self._assert_agrees(by_hand())
        self._assert_agrees(make_labelled(150, eyes=2))
        unknown = np.where(np.arange(60) < 10, -1, make_graded(60).truth)
        self._assert_agrees(make_graded(60, truth=unknown, truth_positive=np.where(np.arange(60) > 50, -1, 1)))

    def test_a_bootstrap_sample_equals_the_metric_of_the_drawn_images(self):
        predictions = make_graded(90, eyes=3)
        drawn = draw_weights(np.random.default_rng(5), 4, 30)
        self.assertTrue((drawn.sum(axis=1) == 30).all())
        _, statistics = estimates_and_statistics(predictions)
        values = {name: value for statistic in statistics for name, value in statistic(drawn).items()}
        for i, weights in enumerate(drawn):
            rows = np.repeat(np.arange(90), weights[predictions.patient_codes].astype(int))
            truth, decided = predictions.truth[rows], predictions.predicted[rows]
            kappa = metrics.cohen_kappa_score(truth, decided, weights="quadratic", labels=range(5))
            self.assertAlmostEqual(values["quadratic_kappa"][i], kappa, places=10)
            auroc = metrics.roc_auc_score(truth >= 2, predictions.p_positive[rows])
            self.assertAlmostEqual(values["auroc"][i], auroc, places=5)

    def test_ranking_with_ties_and_weights(self):
        rng = np.random.default_rng(6)
        for digits in (0, 1, 9):
            truth = rng.random(200) < 0.3
            scores = np.round(truth + rng.normal(size=200), digits)
            weights = rng.integers(4, size=(3, 200)).astype(np.float32)
            values = RankStatistics(scores, truth, codes=np.arange(200), auroc="a", average_precision="p")(weights)
            for i, w in enumerate(weights):
                self.assertAlmostEqual(values["a"][i], metrics.roc_auc_score(truth, scores, sample_weight=w), places=5)
                precision = metrics.average_precision_score(truth, scores, sample_weight=w)
                self.assertAlmostEqual(values["p"][i], precision, places=5)

    def test_draws_depend_on_the_seed_alone(self):
        _, statistics = estimates_and_statistics(make_graded(50))
        first, second, other = (
            bootstrap(statistics, patients=50, bootstrap_samples=40, seed=s)["mae"] for s in (1, 1, 2)
        )
        np.testing.assert_array_equal(first, second)
        self.assertTrue((first != other).any())

    def test_few_patients_with_many_photographs_need_little_memory(self):
        predictions = make_graded(100_000, patients=np.arange(100_000) % 10)
        _, statistics = estimates_and_statistics(predictions)
        tracemalloc.start()
        bootstrap(statistics, patients=10, bootstrap_samples=200, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.assertLess(peak, 50e6)  # all 200 bootstrap_samples at once take 80 MB for each step of each figure


class MethodTest(unittest.TestCase):
    def test_one_photograph_a_patient(self):
        found = compute_metrics(make_graded(100), bootstrap_samples=50)
        self.assertEqual(found["accuracy"]["method"], "Wilson")
        self.assertEqual(found["auroc"]["method"], "DeLong")
        self.assertTrue(found["quadratic_kappa"]["method"].startswith("bootstrap, 50 bootstrap samples"))

    def test_several_photographs_a_patient(self):
        found = compute_metrics(make_graded(100, eyes=2), bootstrap_samples=50)
        self.assertTrue(found["accuracy"]["method"].startswith("patient bootstrap, 50 bootstrap samples"))
        self.assertEqual(found["auroc"]["method"], "Obuchowski, by patient")

    def test_unknown_patients_are_noted_at_every_interval(self):
        for known, expected in ((np.zeros(60, bool), "patients unknown: "), (np.arange(60) > 9, "for 10 of 60")):
            for name, metric in compute_metrics(make_graded(60, patient_known=known), bootstrap_samples=50).items():
                if metric["low"] is not None:
                    self.assertIn(expected, metric["method"], name)

    def test_samples_with_an_empty_class_are_counted(self):
        truth = np.array([0] * 58 + [3, 4])
        found = compute_metrics(
            make_graded(60, truth=truth, predicted=truth, truth_positive=truth >= 2), bootstrap_samples=400
        )
        method = found["balanced_accuracy"]["method"]
        left_out = int(method.split("bootstrap samples, ")[1].split()[0])
        self.assertAlmostEqual(left_out / 400, 1 - (1 - np.exp(-1)) ** 2, delta=0.08)  # one of the two is not drawn
        self.assertTrue(method.startswith("none"))  # more than half: no interval

    def test_without_any_error_the_interval_has_a_width(self):
        truth = make_graded(100, eyes=2).truth
        found = compute_metrics(make_graded(100, eyes=2, predicted=truth, refer=truth >= 2), bootstrap_samples=50)
        self.assertEqual(found["accuracy"]["method"], "Wilson on 50 patients")
        self.assertAlmostEqual(found["accuracy"]["low"], 0.92865, places=4)
        self.assertIsNone(found["quadratic_kappa"]["low"])
        self.assertIn("the same in all", found["quadratic_kappa"]["method"])

    def test_two_classes(self):
        base = make_graded(80)
        p = np.stack([1 - base.p_positive, base.p_positive], axis=1)
        truth = base.truth_positive
        found = compute_metrics(
            make_graded(80, classes=("below", "referable"), probabilities=p, truth=truth, predicted=base.refer)
        )
        self.assertNotIn("off_by_one", found)
        self.assertEqual(found["recall/referable"]["value"], found["sensitivity"]["value"])

    def test_unknown_labels_give_no_metric(self):
        none = np.full(30, -1)
        self.assertNotIn("accuracy", compute_metrics(make_graded(30, truth=none), bootstrap_samples=20))
        self.assertNotIn("auroc", compute_metrics(make_graded(30, truth_positive=none), bootstrap_samples=20))
        self.assertEqual(compute_metrics(make_graded(30, truth=none, truth_positive=none)), {})
