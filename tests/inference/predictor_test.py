import dataclasses
import json
import os
import pathlib
import tempfile
from unittest import mock

import cv2
import numpy as np
import tensorflow as tf

from dr_tf.cli import predict
from dr_tf.console import EXIT_USER_ERROR, UserError
from dr_tf.data.records import open_records
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.case import Case
from dr_tf.inference.modes import RequestedModes, score_batches, score_images
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.rule import Mode, Rule
from dr_tf.inference.run import Run, load_run, read_neighbours
from tests import commands, tiny
from tests.inference import heads
from tests.inference.prepare_images_test import PREPARATION, Deadly, photograph


class PredictorTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        run = load_run(tiny.run_dir())
        # At 64 pixels every photograph is out of focus.
        cls.run_of = dataclasses.replace(run, rule=dataclasses.replace(run.rule, gradable_from=0.0))
        cls.predictor = Predictor(cls.run_of)

    def test_a_path_its_bytes_and_its_pixels_get_the_same_decision(self):
        path = tiny.photographs()[0]
        pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        of_path, of_bytes, of_pixels = self.predictor.decisions([path, path.read_bytes(), pixels])
        self.assertEqual(of_path.probabilities, of_bytes.probabilities)
        self.assertAllClose(
            of_path.p_positive, of_pixels.p_positive, atol=0.02
        )  # arrays are not decoded at reduced size
        self.assertEqual((of_path.case, of_bytes.case), (str(path), "photograph 2"))

    def test_an_original_gets_the_same_decision_as_its_record(self):
        records = open_records(tiny.records_root(), tiny.DATASET)
        rows = records.rows("test")
        images = np.stack([records.image(row) for row in rows])
        scored = score_batches(self.run_of.network, self.predictor.requested_modes, [(images,)])
        of_records = self.predictor.rule.decide(
            scored.scores, cases=rows, distances=self.run_of.feature_distribution.distance(scored.features)
        )
        names = {row: records.columns["image_id"][row] for row in rows}
        root = tiny.records_root().parent / "photographs"
        of_originals = list(self.predictor.decisions([root / names[row] for row in rows]))
        for one, other in zip(of_originals, of_records, strict=True):
            self.assertAllClose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-6)
            self.assertAllClose(one.distance, other.distance, rtol=1e-3)
            self.assertEqual((one.action, one.grade, one.reason), (other.action, other.grade, other.reason))

    def test_order_is_kept_for_any_batch_size_and_with_broken_images(self):
        good = tiny.photographs()[:5]
        mixed = [good[0], b"no photograph", *good[1:3], pathlib.Path("nowhere.jpg"), *good[3:]]
        one = list(self.predictor.decisions(mixed, batch_size=2))
        other = list(self.predictor.decisions(mixed, batch_size=16))
        self.assertEqual([d.case for d in one], [d.case for d in other])
        self.assertAllClose([d.p_positive or 0 for d in one], [d.p_positive or 0 for d in other], atol=1e-5)
        self.assertEqual([d.reason != "" and d.grade is None for d in one], [i in (1, 4) for i in range(7)])
        self.assertIn("cannot be read: No such file", one[4].reason)

    def test_memory_is_bounded(self):
        """At most three batches are read ahead."""
        taken = []

        def photographs():
            for path in tiny.photographs() * 3:
                taken.append(path)
                yield path

        next(self.predictor.decisions(photographs(), batch_size=2))
        self.assertLessEqual(len(taken), 8)

    def test_an_out_of_distribution_case_is_not_graded(self):
        with mock.patch.object(
            self.run_of.feature_distribution.__class__, "distance", lambda feature_distribution, f: np.full(len(f), 1e9)
        ):
            decision = self.predictor.decide(tiny.photographs()[0])
        self.assertEqual((decision.action, decision.grade), ("retake", None))
        self.assertIn("unlike", decision.reason)

    def test_only_the_damaged_image_is_refused(self):
        """The damaged data still decodes, to a wrong image; libjpeg only warns."""
        good = tiny.photographs()[1].read_bytes()
        damaged = good[: len(good) // 2] + good[len(good) // 2 + 100 :]
        result = list(self.predictor.decisions([good, damaged] * 6, batch_size=4))
        self.assertEqual([d.reason == "the JPEG file is damaged" for d in result], [False, True] * 6)
        self.assertEqual(self.predictor.decide(damaged).reason, "the JPEG file is damaged")
        self.assertEqual(self.predictor.decide(good).gradable, result[0].gradable)

    def test_an_image_that_kills_its_worker_is_the_only_one_lost(self):
        good = tiny.photographs()[0]
        result = list(self.predictor.decisions([good, Deadly(), good, good]))
        self.assertEqual(["the process that read it died" in d.reason for d in result], [False, True, False, False])

    def test_a_pipe_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkfifo(f"{folder}/pipe.jpg")
            self.assertEqual(self.predictor.decide(f"{folder}/pipe.jpg").reason, "not a file")

    def test_each_mode_has_its_own_probabilities_and_threshold(self):
        paths = tiny.photographs()[:3]
        plain = [d.p_positive for d in self.predictor.decisions(paths)]
        rule = self.run_of.rule
        neighbours = read_neighbours(tiny.run_dir(), rule.requested_modes("knn"), self.run_of.network)
        for mode in ("tta4", "knn", "knn_majority"):
            result = list(Predictor(self.run_of, mode=mode, neighbours=neighbours).decisions(paths))
            self.assertNotAllClose([d.p_positive for d in result], plain)
            self.assertEqual({d.threshold for d in result}, {rule.operating_point(mode).threshold})

    def test_neighbours_are_read_only_for_modes_that_vote(self):
        self.assertIsNone(
            read_neighbours(tiny.run_dir(), self.predictor.rule.requested_modes("tta4"), self.run_of.network)
        )

    def test_four_views_of_a_mirrored_image_give_the_same_scores(self):
        run, requested = self.run_of, self.run_of.rule.requested_modes("tta4")
        x = np.stack([run.preparation(path.read_bytes())[0] for path in tiny.photographs()[:3]])
        for turned in (x[:, :, ::-1], x[:, ::-1], x[:, ::-1, ::-1]):
            one, other = (score_images(run.network, requested, of).scores["tta4"] for of in (x, turned))
            self.assertAllClose(one, other, atol=1e-4)

    def test_an_unfitted_mode_is_refused(self):
        with self.assertRaisesRegex(UserError, "the mode 'tta8' was not fitted; known: plain, tta4, knn"):
            Predictor.from_run(tiny.run_dir(), "tta8")

    def test_an_unfinished_run_is_refused(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(UserError, "no finished run: it has no"):
            Predictor.from_run(folder)


class RedNetwork:
    """A network whose logit is the mean red of an eye, and of a pair the higher mean; absent eyes do not count."""

    image_size, width, outputs = PREPARATION.image_size, 2, ("eye",)

    def __init__(self, paired):
        self.paired, self.seen = paired, []

    def __call__(self, images):
        self.seen.append(images)
        shown = (
            [(images["left"], images["left_present"]), (images["right"], images["right_present"])]
            if self.paired
            else [(images, True)]
        )
        red = np.stack([np.where(there, x[..., 0].mean(axis=(1, 2)), 0) for x, there in shown], axis=1)
        return {"eye": red.max(axis=1, keepdims=True) - 60}, np.pad(red, [(0, 0), (0, 2 - red.shape[1])])

    def members(self, features):
        return None


def _run(paired, **changes):
    points = {"referable": {"youden": OperatingPoint(0.5, guaranteed=False, note="")}}
    modes = {"plain": Mode(Calibration("binary"), (0.5, 0.5), points)}
    options = {"gradable_from": 0.0, **changes}
    rule = Rule({"eye": heads.Binary()}, "eye", (0.5, 0.5), "train", "youden", modes, **options)
    return Run(RedNetwork(paired), rule, PREPARATION)


class CasesTest(tf.test.TestCase):
    """From images to decisions, by a network with known output."""

    def setUp(self):
        super().setUp()
        self.eyes = {"left": (photograph(),), "right": (photograph(1),)}

    def test_both_eyes_get_one_decision(self):
        run = _run(paired=True)
        decision = Predictor(run).decide(Case("12", self.eyes))
        self.assertEqual((decision.case, decision.missing, list(decision.images)), ("12", (), ["left", "right"]))
        (images,) = run.network.seen
        self.assertEqual([images[f"{eye}_present"].tolist() for eye in self.eyes], [[True], [True]])
        self.assertEqual(images["left"].shape, (1, 32, 32, 3))
        self.assertNotAllClose(images["left"], images["right"])

    def test_an_absent_eye_is_black_and_marked_as_absent(self):
        run = _run(paired=True)
        decision = Predictor(run).decide(Case("12", {"right": self.eyes["right"]}))
        self.assertEqual((decision.missing, decision.gradable, decision.reason), (("left",), True, ""))
        (images,) = run.network.seen
        self.assertEqual((images["left"].max(), images["left_present"].tolist()), (0, [False]))

    def test_an_unreadable_eye_has_to_be_retaken_whatever_the_other(self):
        run = _run(paired=True)
        decision = Predictor(run).decide(Case("12", {"left": (b"nothing",), "right": self.eyes["right"]}))
        self.assertEqual((decision.action, decision.missing), ("retake", ()))
        self.assertRegex(decision.reason, "^left eye: [^;]+$")
        self.assertEqual(run.network.seen[0]["left_present"].tolist(), [False])
        self.assertIsNotNone(decision.p_positive)

    def test_if_neither_eye_can_be_read_the_network_is_not_called(self):
        run = _run(paired=True)
        decision = Predictor(run).decide(Case("12", {"left": (b"nothing",), "right": ("nowhere.jpg",)}))
        self.assertRegex(decision.reason, "^left eye: .+; right eye: it cannot be read: No such file")
        self.assertEqual((decision.action, decision.p_positive, run.network.seen), ("retake", None, []))

    def test_the_eye_out_of_focus_is_named(self):
        sharp, blurred = Case("12", self.eyes), Case("13", self.eyes | {"left": (photograph(blur=12),)})
        least = min(image.gradability for image in Predictor(_run(paired=True)).decide(sharp).images.values())
        predictor = Predictor(_run(paired=True, gradable_from=least))
        one, other = predictor.decisions([sharp, blurred])
        self.assertEqual((one.gradable, one.reason), (True, ""))
        self.assertRegex(other.reason, "^left eye: [^;]+$")
        self.assertEqual((other.action, other.images["right"].reason), ("retake", ""))

    def test_the_network_gets_the_most_gradable_of_several_images(self):
        one, other = _run(paired=True), _run(paired=True)
        Predictor(one).decide(Case("12", self.eyes))
        several = {eye: (photograph(int(eye == "right"), blur=6), *shown) for eye, shown in self.eyes.items()}
        Predictor(other).decide(Case("12", several))
        self.assertAllEqual(one.network.seen[0]["left"], other.network.seen[0]["left"])
        self.assertAllEqual(one.network.seen[0]["right"], other.network.seen[0]["right"])

    def test_a_batch_of_pairs_gets_the_same_decisions_as_single_pairs(self):
        cases = [
            Case("both", self.eyes),
            Case("left", {"left": self.eyes["left"]}),
            Case("none", {"left": (b"nothing",)}),
            Case("right", {"right": self.eyes["right"]}),
        ]
        predictor = Predictor(_run(paired=True))
        result = list(predictor.decisions(cases, batch_size=3))
        self.assertEqual([d.case for d in result], ["both", "left", "none", "right"])
        for one, case in zip(result, cases, strict=True):
            self.assertEqual(one, predictor.decide(case))

    def test_decisions_with_images(self):
        ((case, result, decision, _),) = Predictor(_run(paired=True)).decisions_with_images([Case("12", self.eyes)])
        self.assertEqual((case.name, list(result), decision.case), ("12", ["left", "right"], "12"))
        self.assertEqual(result["left"].info.geometry, decision.images["left"].geometry)
        self.assertEqual(result["left"].pixels.shape, (32, 32, 3))

    def test_a_case_of_the_wrong_kind_is_refused(self):
        with self.assertRaisesRegex(UserError, "photograph 1: this model takes both eyes of a patient"):
            Predictor(_run(paired=True)).decide(photograph())
        with self.assertRaisesRegex(UserError, "12: this model takes one photograph, not both eyes"):
            list(Predictor(_run(paired=False)).decisions([photograph(), Case("12", self.eyes)]))

    def test_a_single_image(self):
        run = _run(paired=False)
        decision = Predictor(run).decide(photograph())
        self.assertEqual((decision.case, list(decision.images), decision.missing), ("photograph 1", [""], ()))
        self.assertEqual(decision.geometry.width, 640)
        self.assertEqual(run.network.seen[0].shape, (1, 32, 32, 3))

    def test_requested_modes_are_those_of_the_rule(self):
        predictor = Predictor(_run(paired=False))
        self.assertEqual(predictor.requested_modes, RequestedModes.from_names(("plain",), predictor.rule.heads, "eye"))


class CommandTest(tf.test.TestCase):
    def _run(self, *arguments):
        """(exit status, standard output, standard error)."""
        return commands.run(predict.main, "--run_dir", tiny.run_dir(), *arguments)

    def _refused(self, message, *arguments):
        """Refused in one line, with the exit status of a user error."""
        status, _, errors = self._run(*arguments)
        self.assertEqual(status, EXIT_USER_ERROR)
        self.assertRegex(errors, f"^error: .*{message}.*\n$")

    def test_json_lines_of_a_folder(self):
        folder = tiny.photographs()[0].parents[1]
        _, output, errors = self._run("--format", "json", folder)
        lines = [json.loads(line) for line in output.splitlines()]
        self.assertLen(lines, 15)
        self.assertAllClose(sum(lines[0]["probabilities"].values()), 1)
        self.assertRegex(errors, r"refer: \d+, clear: \d+, retake: \d+")

    def test_csv_and_table(self):
        paths = tiny.photographs()[:2]
        _, output, _ = self._run("--format", "csv", *paths)
        self.assertTrue(output.startswith("case,action,gradable,reason,grade,positive,p_positive"))
        self.assertLen(output.splitlines(), 3)
        _, output, _ = self._run(*paths)
        self.assertIn("p(referable)", output.splitlines()[0])

    def test_at_another_operating_point(self):
        photograph = tiny.photographs()[0]
        points = Predictor.from_run(tiny.run_dir()).rule.mode("plain").operating_points["referable"]
        for name, point in points.items():
            _, output, _ = self._run("--format", "json", "--point", name, photograph)
            self.assertEqual(json.loads(output)["threshold"], point.threshold)
        self._refused("unknown operating point 'best'; known: sensitivity_0.9,", "--point", "best", photograph)

    def test_an_unreadable_image_is_named_and_sets_the_exit_status(self):
        with tempfile.TemporaryDirectory() as folder:
            bad = pathlib.Path(folder) / "bad.jpg"
            bad.write_bytes(b"")
            status, output, _ = self._run(bad, tiny.photographs()[0])
        self.assertEqual(status, 1)
        self.assertIn("bad.jpg", output)
        self.assertLen(output.splitlines(), 3)

    def test_views_and_modes(self):
        for arguments, mode in (
            (["--tta", "4"], "tta4"),
            (["--mode", "knn"], "knn"),
            (["--tta", "1"], "plain"),
            ([], "plain"),
        ):
            self.assertEqual(predict.mode_of(predict.parse(["--run_dir", "x", "y", *arguments])), mode)
        self._refused("the mode 'tta3' was not fitted; known: plain, tta4", "--tta", 3, tiny.photographs()[0])

    def test_user_errors_are_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            self._refused("there is no photograph below", folder)
        self._refused("there is no file nowhere.jpg", "nowhere.jpg")
        self._refused("is no finished run", "--run_dir", "nowhere", tiny.photographs()[0])
