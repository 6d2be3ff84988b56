import dataclasses
import json
import os
import pathlib
import tempfile
from unittest import mock

import cv2
import numpy as np
import tensorflow as tf

from dr_tf import predict
from dr_tf.console import MISTAKE, UserError
from dr_tf.data.records import open_records
from dr_tf.inference.modes import answers
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.run import read_bank
from tests import commands, tiny


class _Deadly:
    """Ends the process that it is handed to."""

    def __reduce__(self):
        return os._exit, (9,)


class PredictorTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.predictor = Predictor.of_run(tiny.run_dir())
        # At 64 pixels every photograph is out of focus.
        cls.predictor.rule = dataclasses.replace(cls.predictor.rule, gradable_from=0.0)

    def test_a_path_its_bytes_and_its_pixels_are_decided_alike(self):
        path = tiny.photographs()[0]
        pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        of_path, of_bytes, of_pixels = self.predictor.decisions([path, path.read_bytes(), pixels])
        self.assertEqual(of_path.probabilities, of_bytes.probabilities)
        self.assertAllClose(of_path.p_positive, of_pixels.p_positive, atol=0.02)  # no reduced decode of an array
        self.assertEqual((of_path.photograph, of_bytes.photograph), (str(path), "photograph 2"))

    def test_an_original_gives_what_its_record_gives(self):
        records = open_records(tiny.records_root(), tiny.DATASET)
        rows = records.rows("test")
        logits, _ = self.predictor.network(np.stack([records.photograph(row) for row in rows]))
        of_records = self.predictor.rule.probabilities(logits)
        names = {row: records.columns["image_id"][row] for row in rows}
        root = tiny.records_root().parent / "photographs"
        decisions = self.predictor.decisions([root / names[row] for row in rows])
        of_originals = [list(decision.probabilities.values()) for decision in decisions]
        self.assertAllClose(of_originals, of_records, atol=1e-6)

    def test_order_is_kept_whatever_the_batches_and_what_is_broken(self):
        good = tiny.photographs()[:5]
        mixed = [good[0], b"no photograph", *good[1:3], pathlib.Path("nowhere.jpg"), *good[3:]]
        one = list(self.predictor.decisions(mixed, batch_size=2))
        other = list(self.predictor.decisions(mixed, batch_size=16))
        self.assertEqual([d.photograph for d in one], [d.photograph for d in other])
        self.assertAllClose([d.p_positive or 0 for d in one], [d.p_positive or 0 for d in other], atol=1e-5)
        self.assertEqual([d.reason != "" and d.grade is None for d in one], [i in (1, 4) for i in range(7)])
        self.assertIn("cannot be read: No such file", one[4].reason)

    def test_memory_is_bounded(self):
        """No more than three batches are read ahead of what was asked for."""
        taken = []

        def photographs():
            for path in tiny.photographs() * 3:
                taken.append(path)
                yield path

        next(self.predictor.decisions(photographs(), batch_size=2))
        self.assertLessEqual(len(taken), 8)

    def test_far_from_training_is_not_graded(self):
        with mock.patch.object(self.predictor.cloud.__class__, "distance", lambda cloud, f: np.full(len(f), 1e9)):
            decision = self.predictor.decide(tiny.photographs()[0])
        self.assertEqual((decision.action, decision.grade), ("retake", None))
        self.assertIn("unlike", decision.reason)

    def test_a_damaged_photograph_is_named_and_no_other(self):
        """What is left of the data still decodes, to a wrong picture; libjpeg only warns."""
        good = tiny.photographs()[1].read_bytes()
        damaged = good[: len(good) // 2] + good[len(good) // 2 + 100 :]
        found = list(self.predictor.decisions([good, damaged] * 6, batch_size=4))
        self.assertEqual([d.reason == "the JPEG file is damaged" for d in found], [False, True] * 6)
        self.assertEqual(self.predictor.decide(damaged).reason, "the JPEG file is damaged")
        self.assertEqual(self.predictor.decide(good).gradable, found[0].gradable)

    def test_a_photograph_that_kills_who_reads_it_is_the_only_one_lost(self):
        good = tiny.photographs()[0]
        found = list(self.predictor.decisions([good, _Deadly(), good, good]))
        self.assertEqual(["the process that read it died" in d.reason for d in found], [False, True, False, False])

    def test_a_pipe_is_no_photograph(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkfifo(f"{folder}/pipe.jpg")
            self.assertEqual(self.predictor.decide(f"{folder}/pipe.jpg").reason, "not a file")

    def test_each_mode_answers_by_its_own_fit(self):
        paths = tiny.photographs()[:3]
        plain = [d.p_positive for d in self.predictor.decisions(paths)]
        bank, one = read_bank(tiny.run_dir(), ("knn",)), self.predictor
        for mode in ("tta4", "knn", "knn_majority"):
            predictor = Predictor(one.network, one.rule, one.preparation, one.cloud, mode=mode, bank=bank)
            found = list(predictor.decisions(paths))
            self.assertNotAllClose([d.p_positive for d in found], plain)
            self.assertEqual({d.threshold for d in found}, {one.rule.mode(mode).points["sensitivity_0.9"].threshold})

    def test_four_views_are_the_same_of_a_photograph_that_comes_mirrored(self):
        predictor = self.predictor
        x = np.stack([predictor.preparation(path.read_bytes())[0] for path in tiny.photographs()[:3]])
        for turned in (x[:, :, ::-1], x[:, ::-1], x[:, ::-1, ::-1]):
            one, other = (
                answers(predictor.network, predictor.rule.head, ("tta4",), of).logits["tta4"] for of in (x, turned)
            )
            self.assertAllClose(one, other, atol=1e-4)

    def test_a_mode_that_was_not_fitted_is_refused(self):
        with self.assertRaisesRegex(UserError, "nothing was fitted for the mode 'tta8'; known: plain, tta4, knn"):
            Predictor.of_run(tiny.run_dir(), "tta8")

    def test_an_unfinished_run_is_named(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(UserError, "no finished run: it has no"):
            Predictor.of_run(folder)


class CommandTest(tf.test.TestCase):
    def _run(self, *arguments):
        """(exit status, standard output, standard error)."""
        return commands.run(predict.main, "--run_dir", tiny.run_dir(), *arguments)

    def _refused(self, said, *arguments):
        """In one line, with a status that no photograph gives."""
        status, _, errors = self._run(*arguments)
        self.assertEqual(status, MISTAKE)
        self.assertRegex(errors, f"^error: .*{said}.*\n$")

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
        self.assertTrue(output.startswith("photograph,action,gradable,reason,grade,positive,p_positive"))
        self.assertLen(output.splitlines(), 3)
        _, output, _ = self._run(*paths)
        self.assertIn("p(referable)", output.splitlines()[0])

    def test_at_another_operating_point(self):
        photograph = tiny.photographs()[0]
        points = Predictor.of_run(tiny.run_dir()).rule.mode("plain").points
        for name, point in points.items():
            _, output, _ = self._run("--format", "json", "--point", name, photograph)
            self.assertEqual(json.loads(output)["threshold"], point.threshold)
        self._refused("unknown operating point 'best'; known: sensitivity_0.9,", "--point", "best", photograph)

    def test_a_bad_photograph_is_named_and_the_status_tells(self):
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
        self._refused("fitted for the mode 'tta3'; known: plain, tta4", "--tta", 3, tiny.photographs()[0])

    def test_mistakes_in_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            self._refused("there is no photograph below", folder)
        self._refused("there is no file nowhere.jpg", "nowhere.jpg")
        self._refused("is no finished run", "--run_dir", "nowhere", tiny.photographs()[0])
