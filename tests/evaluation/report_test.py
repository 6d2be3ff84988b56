"""The evaluation report: its sections, missing and hostile input, and no network access."""

import dataclasses
import functools
import html.parser
import json
import os
import tempfile
import time
import unittest
import unittest.mock

import cv2
import numpy as np
import pytest

from dr_tf.evaluation.evaluation_folder import write_evaluation
from dr_tf.evaluation.measure import measure, measure_shifted
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.evaluation.report.mistakes import mistake_gallery, worst_mistakes
from dr_tf.evaluation.report.model_card import ModelCard
from dr_tf.evaluation.report.page import report
from dr_tf.inference.conformal import fit_conformal
from tests.evaluation.synthetic_predictions import SHARES, make_graded, make_labelled

VOID = {"meta", "img", "br"}
HOSTILE = "<script>alert(\"1\")</script> & 'x' <img src=x onerror=y>"


class _Page(html.parser.HTMLParser):
    """Collects what a browser would load, the tags and attributes, and the text; checks that tags are closed."""

    def __init__(self, page):
        super().__init__()
        self.loaded, self.open, self.text, self.tags, self.attributes = [], [], "", set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "srcset", "href", "action")]
        self.open += [] if tag in VOID else [tag]
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closes another"

    def handle_data(self, data):
        self.text += data if self.open[-1:] != ["style"] else ""

    @property
    def words(self):
        """The text with single spaces."""
        return " ".join(self.text.split())


def _image(name):
    return cv2.imencode(".jpg", np.full((500, 400, 3), 90, np.uint8))[1].tobytes()


@functools.lru_cache
def _graded(n=120, camera="B <i>"):
    calibration = make_graded(60, seed=5)
    conformal = fit_conformal(calibration.probabilities, calibration.truth, calibration.patients, per_class=True)
    base = make_graded(n)
    cameras = np.where(np.arange(n) % 2, "A", camera)
    extra = {"prediction_intervals": conformal.intervals(base.probabilities), "subgroups": {"camera": cameras}}
    points = {"sensitivity_0.9": base.p_positive > 0.3, "youden": base.refer}
    predictions = make_graded(n, uncalibrated=base.probabilities, operating_points=points, **extra)
    return predictions, measure(
        predictions, conformal=conformal.to_dict(), prevalence=0.1, excluded={"not gradable": 7}, bootstrap_samples=50
    )


def _without_charts(*args, **options):
    """The report without its charts, each of which takes a fifth of a second to write."""
    with unittest.mock.patch("dr_tf.evaluation.report.page.svg_data_uri", lambda figure: "data:image/svg+xml;base64,"):
        return report(*args, **options)


class ReportTest(unittest.TestCase):
    def test_is_whole_and_loads_nothing(self):
        page = _Page(report(*_graded(), card=ModelCard(name="a <run>", model="x"), images=_image))
        self.assertEqual(page.open, [])
        for loaded in page.loaded:
            self.assertTrue(loaded.startswith(("data:image/", "#")), loaded[:60])
        for expected in ("a <run> on made/256", "not gradable: 7", "Quadratic kappa", "at a prevalence of 10 %",
                         "camera: B <i>", "fewer than the 9 that a guarantee requires", "Intended use", "Obuchowski",
                         "sensitivity 0.9", "youden"):  # fmt: skip
            self.assertIn(expected, page.text)

    def test_hostile_text_is_escaped(self):
        """Names and texts of any origin: files, record sets, subgroups, reasons, the model card, the scorecard."""
        predictions, metrics = _graded(camera=HOSTILE)
        predictions = dataclasses.replace(
            predictions, classes=(HOSTILE, *predictions.classes[1:]), ids=[f"{HOSTILE} {i}" for i in range(120)]
        )
        metrics = metrics | {
            "dataset": HOSTILE, "split": HOSTILE, "protocol": HOSTILE, "positive": HOSTILE, "caveats": [HOSTILE],
            "excluded": {HOSTILE: 1}, "conformal": metrics["conformal"] | {"no_guarantee": HOSTILE},
            "auroc": metrics["auroc"] | {"method": HOSTILE, "note": HOSTILE},
            "operating_points": {HOSTILE: metrics["operating_points"]["youden"]},
        }  # fmt: skip
        map_scores = {"lesions": {}, "deletion": None, "insertion": None, "parameter_randomization": {HOSTILE: 0.1}}
        scorecard = {
            "positive": HOSTILE, "unit": "photograph", "masks": HOSTILE, "split": "test", "iou_threshold_split": None, "iou_threshold_overlap": False,
            "method": HOSTILE, "photographs": {"masks": 0, "positive": 0, "parameter_randomization": 3},
            "maps": {HOSTILE: map_scores},
        }  # fmt: skip
        card = ModelCard(name=HOSTILE, model=HOSTILE, limits=(HOSTILE,), details={HOSTILE: HOSTILE})
        overlays = {"overlays": lambda names: {name: _image(name) for name in names}, "overlay_legend": lambda: HOSTILE}
        text = _without_charts(predictions, metrics, card=card, images=_image, **overlays, explanations=scorecard)
        page = _Page(text)
        self.assertEqual(page.open, [])
        self.assertNotIn("script", page.tags)
        self.assertLessEqual(
            page.attributes,
            {"aria-hidden", "alt", "charset", "class", "content", "data-label", "href", "id", "lang", "name", "role",
             "scope", "src", "style"},
        )  # fmt: skip
        self.assertTrue(all(source.startswith(("data:image/", "#")) for source in page.loaded))
        self.assertGreater(page.text.count(HOSTILE), 40)

    def test_prediction_sets_state_whether_coverage_is_guaranteed(self):
        predictions, metrics = _graded()
        reasons = ("", "the patients are not known")
        guaranteed, without = (
            _Page(
                _without_charts(predictions, metrics | {"conformal": metrics["conformal"] | {"no_guarantee": reason}})
            ).words
            for reason in reasons
        )
        self.assertIn("contains the true class with a probability of at least 90 %", guaranteed)
        self.assertNotIn("without a coverage guarantee", guaranteed)
        self.assertIn(f"target coverage of 90 %, without a coverage guarantee: {reasons[1]}.", without)
        self.assertNotIn("at least 90 %", without)

    def test_labels(self):
        predictions = make_labelled(60)
        text = _Page(_without_charts(predictions, measure(predictions, bootstrap_samples=20))).text
        for expected in ("ODIR score", "diabetes (ODIR D)", "False positives", "image not available"):
            self.assertIn(expected, text)

    def test_what_is_not_known_is_left_out(self):
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
            self.assertEqual(_Page(_without_charts(predictions, metrics)).open, [])

    def test_images_that_cannot_be_read(self):
        page = _without_charts(*_graded(), images=lambda name: b"not an image")
        self.assertIn("image not available", page)
        self.assertNotIn("data:image/jpeg", page)

    def test_two_classes_are_not_shown_twice(self):
        base = make_graded(60)
        p = np.stack([1 - base.p_positive, base.p_positive], axis=1)
        two = make_graded(
            60, classes=("below", "referable"), probabilities=p, truth=base.truth_positive, predicted=base.refer
        )
        page = _without_charts(two, measure(two, bootstrap_samples=20))
        self.assertEqual(page.count('<table class="confusion">'), 1)
        self.assertNotIn("most probable class.", page)

    def test_label_shift_is_marked(self):
        predictions = make_graded(100)
        shifted = measure_shifted(predictions, method="em", prior=SHARES, bootstrap_samples=20)
        metrics = measure(predictions, shifted=shifted, bootstrap_samples=20)
        self.assertIn("transductive", _Page(_without_charts(predictions, metrics)).text)

    def test_worst_mistakes_come_first_and_once(self):
        predictions = make_graded(300)
        rows_of = worst_mistakes(predictions, per_group=8)
        missed, alarms, furthest = rows_of.values()
        self.assertTrue((np.diff(predictions.p_positive[missed]) >= 0).all())
        self.assertTrue((predictions.truth[missed] >= 2).all() and not predictions.refer[missed].any())
        self.assertTrue(predictions.refer[alarms].all())
        self.assertEqual(len({*missed, *alarms, *furthest}), len(missed) + len(alarms) + len(furthest))

    def test_only_the_images_that_are_shown_get_overlays_all_at_once(self):
        requested, predictions = [], make_graded(300)
        gallery = mistake_gallery(predictions, lambda name: None, lambda names: requested.append(names) or {})
        shown = [str(predictions.ids[row]) for rows in worst_mistakes(predictions).values() for row in rows]
        self.assertEqual(requested, [shown])
        self.assertFalse(gallery.has_overlays)


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
