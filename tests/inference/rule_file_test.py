import json
import pathlib
import tempfile
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.fit_rule import CalibrationLabels, fit_rule
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule_file import read_rule, write_rule
from tests.inference import heads
from tests.inference.synthetic_patients import NATURAL, fit_example_rule, fit_label_rule, sample_scores

PREPARATION = Preparation(records="a/512-plain-q95", size=512, enhancement="plain", quality=95, image_size=256)
MODES = ("plain", "knn", "tta4", "proto", "plain+knn")


def complete_rule():
    """(a rule with modes of every kind, another output and a gate; its scores; its other logits)."""
    outputs = {"grade": heads.Coral(), "proto": heads.Softmax(), "edema": heads.Edema()}
    logits, grades, names = sample_scores(heads.Coral(), 40, np.random.default_rng(0))
    five = np.random.default_rng(1).normal(0, 1, (80, 5)) + np.eye(5)[grades]
    scores = {"plain": logits, "knn": five, "tta4": 2 * five, "proto": -five}
    risks = five[:, :3].argmax(axis=1)
    other_logits = {"proto": five, "edema": five[:, 1:4]}
    rule = fit_rule(
        outputs, "grade", scores, CalibrationLabels(grades, grades >= 2, names, other_classes={"proto": grades, "edema": risks}),
        modes=MODES, train_prior=NATURAL, prior="uniform", distances=np.arange(80), outputs=other_logits,
        other_priors={"proto": NATURAL, "edema": [0.6, 0.3, 0.1]}, no_guarantee="nobody knows the patients",
    )  # fmt: skip
    return rule, scores, other_logits


class FileTest(unittest.TestCase):
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(folder) / "decision.json"

    def again(self, rule):
        write_rule(self.path, rule, PREPARATION)
        read, preparation = read_rule(self.path, heads.HEADS)
        self.assertEqual(preparation, PREPARATION)
        return read

    def test_a_rule_read_back_gives_identical_decisions(self):
        made = {
            head.name: fit_example_rule(head, patients=30, distances=np.arange(60))
            for head in (heads.Softmax(), heads.Coral(), heads.Corn(), heads.Regression(), heads.Binary())
        }
        for name, (rule, logits, _) in (made | {"labels": fit_label_rule(patients=60)}).items():
            again = self.again(rule)
            with self.subTest(name):
                self.assertEqual(again.decide(logits, cases=range(60)), rule.decide(logits, cases=range(60)))
                self.assertEqual(
                    (again.modes, again.prior, again.operating_point_name),
                    (rule.modes, rule.prior, rule.operating_point_name),
                )

    def test_every_mode_and_other_output_read_back_gives_identical_decisions(self):
        rule, scores, other_logits = complete_rule()
        again = self.again(rule)
        for mode in MODES:
            result = [
                r.decide(scores, cases=range(80), outputs=other_logits, mode=mode, distances=np.arange(80))
                for r in (rule, again)
            ]
            with self.subTest(mode):
                self.assertEqual(*result)
                self.assertEqual(list(result[1][0].other_outputs), ["proto", "edema"])
        self.assertEqual(
            [again.requested_modes(mode).modes for mode in MODES], [rule.requested_modes(mode).modes for mode in MODES]
        )
        self.assertEqual((again.other_outputs, again.no_guarantee), (rule.other_outputs, "nobody knows the patients"))
        self.assertEqual((again.distance_limit, again.prior_name), (rule.distance_limit, "uniform"))
        self.assertEqual(again.warning_limit, rule.warning_limit)
        self.assertEqual([again.modes[m].conformal for m in MODES], [rule.modes[m].conformal for m in MODES])
        self.assertIsNotNone(rule.modes["plain"].conformal)

    def test_a_rule_at_another_prevalence_round_trips(self):
        for rule, logits, _ in (fit_example_rule(heads.Softmax(), patients=30), fit_label_rule(patients=60)):
            moved = rule.at_prevalence(0.05)
            self.assertEqual(self.again(moved).decide(logits, cases=range(60)), moved.decide(logits, cases=range(60)))

    def test_a_missing_file_is_refused(self):
        with self.assertRaisesRegex(UserError, "cannot be read as a decision file"):
            read_rule(self.path, heads.HEADS)


class BrokenTest(unittest.TestCase):
    """Every invalid file is refused with one line that says what is wrong."""

    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(folder) / "decision.json"
        write_rule(self.path, complete_rule()[0], PREPARATION)
        self.whole = self.path.read_text()

    def broken(self, *place, value=None, without=False):
        document = json.loads(self.whole)
        part = document
        for step in place[:-1]:
            part = part[step]
        if without:
            del part[place[-1]]
        else:
            part[place[-1]] = value
        return json.dumps(document)

    def refused(self, text, message):
        self.path.write_text(text)
        with self.subTest(message, text=text[:80]), self.assertRaisesRegex(UserError, message) as caught:
            read_rule(self.path, heads.HEADS)
        self.assertNotIn("\n", str(caught.exception))

    def test_files_that_are_not_json_objects(self):
        self.refused("", "cannot be read as a decision file")
        self.refused(self.whole[:200], "cannot be read as a decision file")
        self.refused("[" * 100000, "cannot be read as a decision file")
        self.refused("[]", "contains no JSON object")
        self.refused(self.whole.replace('"gradable_from": 0.5', '"gradable_from": NaN'), "NaN is not a number")

    def test_another_version(self):
        self.refused("{}", "has version None; this version of dr_tf reads version 3")
        self.refused(self.broken("version", value=4), "has version 4; this version of dr_tf reads version 3")

    def test_an_earlier_version_asks_to_train_again(self):
        before = {"version": 1, "head": {"name": "softmax", "config": {}}, "positive": "referable", "modes": {}}
        self.refused(json.dumps(before), "has version 1; this version of dr_tf reads version 3: train the run again")

    def test_heads(self):
        for place, value, message in (
            (("heads", "grade", "name"), "os.system", "unknown head 'os.system'; known: softmax, coral"),
            (("heads", "grade", "name"), [], "cannot be used"),
            (("heads", "grade", "config"), {"x": 1}, "cannot be used: .*unexpected keyword"),
            (("heads", "grade"), "coral", "cannot be used"),
            (("heads",), ["coral"], "cannot be used"),
            (("decides",), "nothing", "'nothing' is missing"),
            (("decides",), ["grade"], "cannot be used"),
            (("decides",), "edema", "its classes or its definition of positive are not those"),
            (("positive",), "any_dr", "its definition of positive"),
            (("classes",), list("01234x"), "its classes or"),
        ):
            self.refused(self.broken(*place, value=value), message)

    def test_prior_operating_point_and_gate(self):
        for place, value, message in (
            (("operating_point",), "best", "unknown operating point 'best'; known: sensitivity_0.9"),
            (("operating_point",), ["youden"], "cannot be used"),
            (("prior", "shares"), [0.5, 0.5], "one share between 0 and 1 for each class"),
            (("prior", "shares"), [1, 0, 0, 0, 0], "one share between 0 and 1"),
            (("prior", "shares"), [0.2, 0.2, 0.2, 0.2, 0.3], "the shares of a prior must sum to 1"),
            (("prior", "shares"), [0.2, 0.2, 0.2, 0.2, "0.2"], "'0.2' is not a finite number"),
            (("prior",), {}, "'shares' is missing"),
            (("gate", "distance_limit"), "far", "'far' is not a finite number"),
            (("gate", "gradable_from"), None, "None is not a finite number"),
            (("gate", "gradable_from"), True, "True is not a finite number"),
        ):
            self.refused(self.broken(*place, value=value), message)
        self.refused(self.whole.replace('"gradable_from": 0.5', '"gradable_from": 1e999'), "is not a finite number")
        for name in ("heads", "decides", "no_guarantee", "modes", "other_outputs", "gate", "preparation"):
            self.refused(self.broken(name, without=True), f"'{name}' is missing")

    def test_values_of_a_mode(self):
        four = [3.0, 1.0, -1.0, -3.0]
        for place, value, message in (
            (("calibration", "slope"), [-1], "positive slopes"),
            (("calibration", "slope"), [1e308], "positive slopes up to 148"),
            (("calibration", "slope"), [], "positive slopes"),
            (("calibration", "bias"), four[::-1], "descend"),
            (("calibration", "bias"), four[:3], "has 3 biases, not 4"),
            (("calibration", "bias"), ["0"] * 4, "is not a finite number"),
            (("calibration", "bias"), 0, "cannot be used"),
            (("calibration", "link"), "probit", "unknown link 'probit'; known: softmax"),
            (("calibration", "link"), "corn", "positive slopes"),
            (("calibration",), {"link": "corn", "slope": [1.0] * 4, "bias": four}, "calibration of another link"),
            (("calibration",), {"link": "regression", "slope": [1], "bias": four}, "calibration of another link"),
            (("grade_thresholds",), [3, 2, 1, 0], "must rise"),
            (("grade_thresholds",), [1, 2, 3], "one less than the classes"),
            (("fitted_prior",), [0.25] * 4, "one share between 0 and 1"),
            (("averaging_prior",), [1, 1, 1, 1, 1], "one share between 0 and 1"),
            (("report",), 3, "cannot be used"),
            (("operating_points",), {}, "operating points are not those of referable"),
            (("operating_points",), {"any_dr": {}}, "operating points are not those of referable"),
            (("operating_points", "referable"), {}, "unknown operating point"),
            (("operating_points", "referable", "youden", "threshold"), None, "is not a finite number"),
            (("operating_points", "referable", "youden", "surprise"), 1, "cannot be used"),
            (("operating_points", "referable", "youden"), [], "cannot be used"),
        ):
            self.refused(self.broken("modes", "plain", *place, value=value), message)

    def test_definition_of_a_mode(self):
        nothing = {"output": "", "views": 1, "vote": "", "mean": []}
        for mode, way, message in (
            ("tta4", {"views": 3}, "'tta4' has an unknown definition"),
            ("tta4", {"views": 10**9}, "has an unknown definition"),
            ("knn", {"vote": "os.system"}, "'knn' has an unknown definition"),
            ("knn", {"vote": "ordinal", "output": "proto"}, "has an unknown definition"),
            ("plain+knn", {"mean": ["plain", "knn"], "views": 8}, "has an unknown definition"),
            ("plain+knn", {"mean": ["plain", "tta8"]}, "'plain.knn' needs an output or modes that are missing"),
            ("plain+knn", {"mean": ["plain", "plain+knn"]}, "needs an output or modes that are missing"),
            ("plain+knn", {"mean": 3}, "cannot be used"),
            ("proto", {"output": "nowhere"}, "'proto' needs an output or modes that are missing"),
            ("proto", {"output": ["proto"]}, "cannot be used"),
            ("proto", {"output": "edema"}, "'proto' has a calibration of another link, or an output of other classes"),
        ):
            self.refused(self.broken("modes", mode, "definition", value=nothing | way), message)
        self.refused(self.broken("modes", "plain", "definition", value={}), "'output' is missing")
        self.refused(
            self.broken("modes", "plain", without=True), "'plain.knn' needs an output or modes that are missing"
        )

    def test_a_number_of_views_written_as_float_is_read_as_integer(self):
        self.path.write_text(self.broken("modes", "tta4", "definition", "views", value=4.0))
        self.assertEqual(repr(read_rule(self.path, heads.HEADS)[0].requested_modes("tta4").views), "4")

    def test_other_outputs(self):
        for place, value, message in (
            (("edema", "calibration", "bias"), [0.0], "has 1 biases, not 3"),
            (("edema", "calibration", "link"), "labels", "positive slopes"),
            (
                ("edema", "calibration"),
                {"link": "coral", "slope": [1], "bias": [1, -1]},
                "link coral does not fit the head",
            ),
            (("edema", "prior"), [0.5, 0.5], "one share between 0 and 1"),
            (("edema", "fitted_prior"), [0.5, 0.5, 0.5], "must sum to 1"),
            (("edema",), {}, "is missing"),
            (("nowhere",), {}, "'nowhere' is missing"),
        ):
            self.refused(self.broken("other_outputs", *place, value=value), message)
        self.refused(self.broken("other_outputs", value=[]), "cannot be used")

    def test_preparation(self):
        for field, values in {
            "enhancement": ["os", None, []],
            "size": [1e9, 0, 15, 16383, 512.0, True],
            "image_size": [1, 15, 8193, 16383, -256, "256"],
            "quality": [0, 101, 95.0, None],
            "records": [3, None],
        }.items():
            for value in values:
                self.refused(self.broken("preparation", field, value=value), "unknown preparation|cannot be used")
        self.refused(self.broken("preparation", value={}), "'enhancement' is missing")
        self.refused(self.broken("preparation", "more", value=1), "cannot be used")

    def test_labels(self):
        write_rule(self.path, fit_label_rule(patients=60)[0], PREPARATION)
        self.whole = self.path.read_text()
        points = json.loads(self.whole)["modes"]["plain"]["operating_points"]
        for place, value, message in (
            (("prior", "shares"), [0.5, 0.5, 1.0], "one share between 0 and 1"),
            (("prior", "shares"), [0.9, 0.9], "one share between 0 and 1"),
            (
                ("modes", "plain", "operating_points"),
                points | {"odir_C": points["odir_D"]},
                "are not those of odir_N, odir_D, odir_G",
            ),
            (
                ("modes", "plain", "operating_points"),
                {"odir_D": points["odir_D"]},
                "are not those of odir_N, odir_D, odir_G",
            ),
            (("modes", "plain", "operating_points", "odir_G"), {}, "unknown operating point"),
            (("modes", "plain", "calibration", "link"), "softmax", "positive slopes"),
        ):
            self.refused(self.broken(*place, value=value), message)


if __name__ == "__main__":
    unittest.main()
