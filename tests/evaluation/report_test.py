"""The page holds what it should, says it of bad and of empty input too, and loads nothing."""

import functools
import html.parser
import json
import os
import tempfile
import time
import unittest

import cv2
import numpy as np
import pytest

from dr_tf.evaluation.evaluation_folder import write_evaluation
from dr_tf.evaluation.measure import measure, measure_shifted
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.evaluation.report.charts import charts
from dr_tf.evaluation.report.conformal import intervals_section
from dr_tf.evaluation.report.mistakes import groups, mistake_pages
from dr_tf.evaluation.report.model_card import ModelCard
from dr_tf.evaluation.report.page import report
from dr_tf.evaluation.statistics.conformal import fit_conformal
from tests.evaluation.synthetic_predictions import SHARES, make_graded, make_labelled

VOID = {"meta", "img", "br"}


class _Page(html.parser.HTMLParser):
    """Collects what a browser would load, and checks that tags close."""

    def __init__(self, page):
        super().__init__()
        self.loaded, self.open, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "srcset", "href", "action")]
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closes another"

    def handle_data(self, data):
        self.text += data if self.open[-1:] != ["style"] else ""


def _photograph(name):
    return cv2.imencode(".jpg", np.full((500, 400, 3), 90, np.uint8))[1].tobytes()


@functools.lru_cache
def _graded(n=120):
    calibration = make_graded(60, seed=5)
    conformal = fit_conformal(calibration.probabilities, calibration.truth, calibration.patients, per_class=True)
    base = make_graded(n)
    camera = np.where(np.arange(n) % 2, "A", "B <i>")
    extra = {"prediction_intervals": conformal.intervals(base.probabilities), "subgroups": {"camera": camera}}
    points = {"sensitivity_0.9": base.p_positive > 0.3, "youden": base.refer}
    predictions = make_graded(n, uncalibrated=base.probabilities, operating_points=points, **extra)
    return predictions, measure(
        predictions, conformal=conformal.to_dict(), prevalence=0.1, excluded={"not gradable": 7}, bootstrap_samples=50
    )


class ReportTest(unittest.TestCase):
    def test_is_whole_and_loads_nothing(self):
        page = _Page(report(*_graded(), card=ModelCard(name="a <run>", model="x"), photographs=_photograph))
        self.assertEqual(page.open, [])
        for loaded in page.loaded:
            self.assertTrue(loaded.startswith(("data:image/", "#")), loaded[:60])
        for said in ("a <run> on made/256", "not gradable: 7", "Quadratic kappa", "at a prevalence of 10 %", "camera: B <i>",
                     "fewer than the 9 that a promise needs", "Intended use", "Obuchowski",
                     "sensitivity 0.9", "youden"):  # fmt: skip
            self.assertIn(said, page.text)

    def test_intervals_promise_nothing_where_nothing_can_be(self):
        metrics = _graded()[1]
        whys = ("", "nobody knows whose they are")
        promised, plain = (
            _Page(intervals_section(metrics | {"conformal": metrics["conformal"] | {"no_guarantee": why}})).text
            for why in whys
        )
        self.assertIn("Made to hold the true class for at least 90 %", promised)
        self.assertNotIn("nothing is promised", promised)
        self.assertIn(f"but nothing is promised: {whys[1]}.", plain)
        self.assertNotIn("at least", plain)

    def test_labels(self):
        predictions = make_labelled(60)
        text = _Page(report(predictions, measure(predictions, bootstrap_samples=20))).text
        for said in ("ODIR score", "diabetes (ODIR D)", "Wrongly given", "no photograph at hand"):
            self.assertIn(said, text)

    def test_what_cannot_be_said_is_left_out(self):
        n, none = 12, np.full(12, -1)
        one = make_graded(n).take([0])
        for predictions in (
            make_graded(n, truth=none),
            make_graded(n, truth_positive=none),
            make_graded(n, truth=none, truth_positive=none),
            make_graded(n, truth=np.zeros(n, int), truth_positive=np.zeros(n, int), refer=np.zeros(n, bool)),
            make_labelled(n, truth=np.full((n, 8), -1)),
            make_labelled(n, truth=np.zeros((n, 8), int), truth_positive=np.zeros(n, int)),
            one,
        ):
            metrics = measure(predictions, bootstrap_samples=20)
            json.dumps(metrics, allow_nan=False)
            charts(predictions, metrics)  # as figures, not yet as pictures, which take a second a page
        self.assertEqual(_Page(report(predictions, metrics)).open, [])

    def test_photographs_that_cannot_be_read(self):
        found = mistake_pages(_graded()[0], photographs=lambda name: b"not a photograph")
        self.assertIn("no photograph at hand", found)
        self.assertNotIn("<img", found)

    def test_two_classes_are_not_shown_twice(self):
        base = make_graded(60)
        p = np.stack([1 - base.p_positive, base.p_positive], axis=1)
        two = make_graded(
            60, classes=("below", "referable"), probabilities=p, truth=base.truth_positive, predicted=base.refer
        )
        page = report(two, measure(two, bootstrap_samples=20))
        self.assertEqual(page.count('<table class="confusion">'), 1)
        self.assertNotIn("likeliest class’s probability", page)

    def test_label_shift_is_marked(self):
        predictions = make_graded(100)
        shifted = measure_shifted(predictions, method="em", prior=SHARES, bootstrap_samples=20)
        text = _Page(report(predictions, measure(predictions, shifted=shifted, bootstrap_samples=20))).text
        self.assertIn("transductive", text)

    def test_worst_mistakes_come_first_and_once(self):
        predictions = make_graded(300)
        found = groups(predictions, each=8)
        missed, alarms, furthest = found.values()
        self.assertTrue((np.diff(predictions.p_positive[missed]) >= 0).all())
        self.assertTrue((predictions.truth[missed] >= 2).all() and not predictions.refer[missed].any())
        self.assertTrue(predictions.refer[alarms].all())
        self.assertEqual(len({*missed, *alarms, *furthest}), len(missed) + len(alarms) + len(furthest))


class MetricsTest(unittest.TestCase):
    def test_every_figure_has_the_same_shape(self):
        _, metrics = _graded()
        for name in (
            "accuracy",
            "balanced_accuracy",
            "auroc",
            "quadratic_kappa",
            "f1_macro",
            "sensitivity",
            "specificity",
            "ece",
        ):
            self.assertLessEqual({"value", "low", "high", "method"}, set(metrics[name]), name)
        self.assertEqual((metrics["n"], metrics["patients"], metrics["positive"]), (120, 120, "referable"))
        self.assertEqual(metrics["excluded"], {"not gradable": 7})
        self.assertEqual(np.sum(metrics["confusion"]["classes"]), 120)

    def test_folder_is_replaced_as_a_whole(self):
        predictions, metrics = _graded()
        with tempfile.TemporaryDirectory() as root:
            folder = os.path.join(root, "evaluation", "set-test")
            os.makedirs(folder)
            open(os.path.join(folder, "stale.png"), "w").close()
            write_evaluation(folder, predictions, metrics)
            names = set(os.listdir(folder))
            self.assertLessEqual({"metrics.json", "predictions.csv", "report.html", "roc.png"}, names)
            self.assertNotIn("stale.png", names)
            self.assertEqual(os.listdir(os.path.dirname(folder)), ["set-test"])
            with open(os.path.join(folder, "metrics.json"), encoding="utf-8") as file:
                self.assertEqual(json.load(file)["accuracy"], metrics["accuracy"])
            np.testing.assert_array_equal(
                read_predictions(os.path.join(folder, "predictions.csv")).probabilities, predictions.probabilities
            )

    def test_equal_input_gives_the_same_page(self):
        first, second = (report(*_graded(40)) for _ in range(2))
        self.assertEqual(first, second)


class SpeedTest(unittest.TestCase):
    @pytest.mark.slow
    def test_all_of_ten_thousand(self):
        """Figures with 2,000 bootstrap_samples, referral curves, subgroups."""
        subgroups = {"camera": np.arange(10_000) % 4, "eye": np.tile(["left", "right"], 5000)}
        predictions = make_graded(10_000, subgroups=subgroups)
        start = time.process_time()
        measure(predictions)
        self.assertLess(time.process_time() - start, 20)
