"""Conformal intervals against hand-computed values, and their coverage of the true grade."""

import dataclasses
import json
import unittest

import numpy as np

from dr_tf.evaluation.predict_records import summarize_folds
from dr_tf.inference.conformal import (
    ALL_CLASSES,
    Conformal,
    conformity_scores,
    fit_conformal,
)
from tests.evaluation.synthetic_predictions import make_graded

ONE = np.array([[0.1, 0.5, 0.25, 0.1, 0.05]])


def _covered(intervals, truth):
    return (intervals[:, 0] <= truth) & (truth <= intervals[:, 1])


class ByHandTest(unittest.TestCase):
    def test_scores(self):
        # 1, then 2 (0.25 > 0.1), then 0 or 3: equal, the higher grade first, then 0, then 4.
        np.testing.assert_allclose(conformity_scores(ONE), [[0.85, 0.0, 0.5, 0.75, 0.95]])

    def test_intervals_grow_with_the_threshold(self):
        for threshold, expected in ((0.0, [1, 1]), (0.5, [1, 2]), (0.8, [1, 3]), (0.9, [0, 3]), (ALL_CLASSES, [0, 4])):
            intervals = Conformal(0.1, False, (threshold,), (0,) * 5).intervals(ONE)
            np.testing.assert_array_equal(intervals, [expected])

    def test_threshold_is_the_conformal_quantile(self):
        # 9 patients at alpha 0.1: the 9th of 9; 8 patients: too few, the whole scale.
        p = make_graded(9).probabilities
        truth = make_graded(9, seed=3).truth
        own = conformity_scores(p)[np.arange(9), truth]
        self.assertEqual(fit_conformal(p, truth, np.arange(9)).thresholds, (own.max(),))
        few = fit_conformal(p[:8], truth[:8], np.arange(8))
        self.assertEqual(few.thresholds, (ALL_CLASSES,))
        np.testing.assert_array_equal(few.intervals(ONE), [[0, 4]])

    def test_one_score_a_patient(self):
        p, truth = make_graded(100).probabilities, make_graded(100).truth
        conformal = fit_conformal(p, truth, np.zeros(100))
        self.assertEqual(conformal.thresholds, (ALL_CLASSES,))  # 100 photographs, but one patient
        self.assertLessEqual(max(conformal.calibration_patients), 1)

    def test_round_trip_through_json(self):
        conformal = fit_conformal(make_graded(90).probabilities, make_graded(90).truth, np.arange(90), per_class=True)
        summary = json.loads(json.dumps(conformal.to_dict()))
        self.assertEqual(summary.pop("guaranteed"), list(conformal.guaranteed))
        self.assertEqual(Conformal(**summary), conformal)

    def test_folds_are_summarized_by_the_fewest_patients(self):
        one, other = Conformal(0.1, False, (0.5,), (9, 3)), Conformal(0.1, False, (0.7,), (4, 8))
        summary = summarize_folds([one, other])
        self.assertEqual((summary["thresholds"], summary["calibration_patients"]), ((0.5, 0.7), (4, 3)))
        self.assertIsNone(summarize_folds([None, one]))

    def test_without_a_guarantee_only_the_guarantee_changes(self):
        p, truth, patients = make_graded(90).probabilities, make_graded(90).truth, np.arange(90)
        for per_class in (False, True):
            guaranteed, plain = (
                fit_conformal(p, truth, patients, per_class=per_class, no_guarantee=why) for why in ("", "nobody knows")
            )
            self.assertEqual(any(guaranteed.guaranteed), per_class)
            self.assertFalse(any(plain.guaranteed))
            self.assertEqual(dataclasses.replace(plain, no_guarantee=""), guaranteed)
        summary = summarize_folds([dataclasses.replace(plain, no_guarantee="nobody"), plain])
        self.assertEqual((summary["no_guarantee"], set(summary["guaranteed"])), ("nobody knows", {False}))

    def test_classes_with_too_few_patients_are_not_guaranteed(self):
        truth = np.array([0] * 40 + [1] * 8 + [2] * 9 + [3] * 30 + [-1] * 13)
        conformal = fit_conformal(make_graded(100).probabilities, truth, np.arange(100), per_class=True)
        self.assertEqual(conformal.required_patients, 9)
        self.assertEqual(conformal.calibration_patients, (40, 8, 9, 30, 0))
        self.assertEqual(conformal.guaranteed, (True, False, True, True, False))
        self.assertEqual(conformal.thresholds[1], conformal.thresholds[4])


class CoverageTest(unittest.TestCase):
    """Simulate 300 times 60 calibration patients with two correlated eyes, and one eye of each of 200 new patients."""

    def _simulate(self, per_class, alpha=0.2):
        coverages, widths, of_class = [], [], np.zeros((5, 2))
        for seed in range(300):
            fitted = make_graded(120, seed=seed, eyes=2, heat=3)
            new = make_graded(200, seed=10_000 + seed, heat=3)
            conformal = fit_conformal(
                fitted.probabilities, fitted.truth, fitted.patients, alpha=alpha, per_class=per_class, seed=seed
            )
            intervals = conformal.intervals(new.probabilities)
            hits = _covered(intervals, new.truth)
            coverages.append(hits.mean())
            widths.append((intervals[:, 1] - intervals[:, 0] + 1).mean())
            for label in np.flatnonzero(conformal.guaranteed):
                of_class[label] += hits[new.truth == label].sum(), (new.truth == label).sum()
        return np.mean(coverages), np.mean(widths), of_class[:, 0] / np.maximum(of_class[:, 1], 1)

    def test_overall(self):
        coverage, width, _ = self._simulate(per_class=False)
        self.assertTrue(0.79 <= coverage <= 0.84, coverage)
        self.assertLess(width, 3)

    def test_of_each_class(self):
        _, _, of_class = self._simulate(per_class=True)
        self.assertTrue((of_class >= 0.785).all(), of_class)
