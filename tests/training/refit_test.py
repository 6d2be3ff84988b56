"""What decides may change: a killed run continues with it, and a finished run fits its decision rule anew, without training."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shutil
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import train
from dr_tf import configuration
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.run import load_run, read_calibration, read_neighbours, write_scored_rows
from dr_tf.training.fit_decision import DecisionSettings
from dr_tf.training.run_directory import DECISION_PARAMETERS
from tests import tiny

CONFIG = f"""
{tiny.CONFIG}
train.epochs = 2
train.modes = ('tta2',)
train.optimization = @optimization()
"""
OTHER = ("train.operating_point = 'specificity_0.9'", "train.prior = 'uniform'", "train.modes = ('knn', 'plain+knn')")


@pytest.mark.slow
class RefitTest(tf.test.TestCase):
    """`old` is a run, `new` the same after a refit, and `left` what a kill before and after each of its steps would leave."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        configuration.set_up_logging()  # the first time it changes what assertLogs has set up
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "config.gin").write_text(CONFIG)
        cls.old, cls.new, cls.left = cls.folder / "old", cls.folder / "new", []
        cls._train(cls.old)
        shutil.copytree(cls.old, cls.new)
        shutil.rmtree(cls.new / "checkpoints")  # the weights come from model.keras
        with mock.patch("os.replace", cls._replace):
            cls.log = cls._train(cls.new, *OTHER)

    @classmethod
    def _replace(cls, source, target, replace=os.replace):
        cls._keep()
        replace(source, target)
        cls._keep()

    @classmethod
    def _keep(cls):
        cls.left.append(cls.folder / f"left-{len(cls.left)}")
        shutil.copytree(cls.new, cls.left[-1])

    @classmethod
    def _train(cls, run, *bindings, flags=()):
        """Run the command and return its log."""
        arguments = [
            "--gin_file",
            cls.folder / "config.gin",
            "--records",
            tiny.records_root(),
            "--run_dir",
            run,
            *flags,
        ]
        arguments += [part for binding in bindings for part in ("--gin_param", binding)]
        with cls("run").assertLogs("absl", "INFO") as logs, contextlib.redirect_stdout(io.StringIO()):
            train.main([str(argument) for argument in arguments])
        return logs.output

    def _copy(self, of):
        run = self.folder / self.id()
        shutil.copytree(of, run)
        return run

    def _text(self, run, name="decision.json"):
        return (run / name).read_text()

    def _assert_same(self, run, other):
        """Both are decided alike, and nothing half-done is left."""
        for name in ("decision.json", "config.gin", "history.csv"):
            self.assertEqual(self._text(run, name), self._text(other, name))
        for name in ("gate.npz", "neighbours.npz"):
            ours, theirs = np.load(run / name), np.load(other / name)
            for array in theirs.files:
                self.assertAllEqual(ours[array], theirs[array])
        self.assertFalse([path.name for path in run.iterdir() if path.name.startswith((".unf", ".ref"))])

    def test_a_finished_run_is_decided_anew(self):
        self.assertEqual((self.new / "model.keras").read_bytes(), (self.old / "model.keras").read_bytes())
        self.assertEqual(self._text(self.new, "history.csv"), self._text(self.old, "history.csv"))
        self.assertLen([line for line in self.log if "only its decision rule is fitted anew" in line], 1)
        self.assertFalse([line for line in self.log if "training examples" in line])
        self.assertIn("train.operating_point = 'specificity_0.9'", self._text(self.new, "config.gin"))
        photograph = tiny.photographs()[0]
        before, after = (Predictor.from_run(run).decide(photograph).threshold for run in (self.old, self.new))
        self.assertNotEqual(after, before)
        document = json.loads(self._text(self.new))
        self.assertEqual(list(document["modes"]), ["plain", "knn", "plain+knn"])
        self.assertEqual(
            document["modes"]["plain"]["operating_points"]["referable"]["specificity_0.9"]["threshold"], after
        )

    def test_a_kill_leaves_the_old_or_the_new_rule(self):
        decisions = [self._text(folder) for folder in self.left]
        self.assertEqual(list(dict.fromkeys(decisions)), [self._text(self.old), self._text(self.new)])
        first = decisions.index(self._text(self.new))
        for folder in (self.left[0], *self.left[first - 1 : first + 1], self.left[-1]):
            self._check_usable(folder)
        for folder in self.left:
            self.assertLessEqual({"tta2", "plain"}, set(read_calibration(folder)[0].scores))

    def _check_usable(self, folder):
        """All modes of the rule have what prediction and evaluation need."""
        run = load_run(folder)
        calibration, _ = read_calibration(folder)
        for mode in run.rule.modes:
            requested = run.rule.requested_modes(mode)
            self.assertLessEqual(set(requested.modes), set(calibration.scores))
            self.assertEqual(read_neighbours(folder, requested, run.network) is None, not requested.votes)

    def test_other_differences_are_refused(self):
        run = self._copy(self.old)
        self._refused("here: train.epochs = 3", run, *OTHER, "train.epochs = 3")
        self._refused("here: optimization.learning_rate = 0.1", run, *OTHER, "optimization.learning_rate = 0.1")
        calibration, more = read_calibration(run)
        write_scored_rows(run / "calibration.npz", calibration, **more | {"fitted_names": more["fitted_names"][1:]})
        self._refused("was trained on other examples", run, *OTHER)
        self.assertEqual(self._text(run), self._text(self.old))

    def _refused(self, expected, run, *bindings):
        with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(io.StringIO()):
            self._train(run, *bindings)
        self.assertRegex(str(caught.exception), expected)

    @pytest.mark.slow
    def test_the_rule_is_that_of_a_run_trained_so(self):
        fresh = self.folder / "fresh"
        self._train(fresh, *OTHER)
        self._assert_same(self.new, fresh)
        self.assertIn("nothing to train", self._train(self.new, *OTHER)[-1])

    @pytest.mark.slow
    def test_the_command_after_a_kill_completes_the_refit_or_undoes_it(self):
        first = [self._text(folder) for folder in self.left].index(self._text(self.new))
        old, new = self.left[first - 1], self.left[first]
        self.assertEqual(self._text(new, "config.gin"), self._text(self.old, "config.gin"))
        self._train(new)  # by the old config, which is no reason to skip it
        self.assertEqual(self._text(new), self._text(self.old))
        self._train(old, *OTHER)
        self._assert_same(old, self.new)

    @pytest.mark.slow
    def test_a_killed_run_continues(self):
        run = self._copy(self.old)
        for name in ("checkpoints/epoch-00002", "history.csv", "model.keras", "decision.json"):
            path = run / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        log = self._train(run, *OTHER)
        self.assertTrue([line for line in log if "epochs 2 to 2" in line])
        self._assert_same(run, self.new)

    def test_what_decides_is_what_the_rule_is_fitted_by(self):
        fields = {f"train.{field.name}" for field in dataclasses.fields(DecisionSettings)}
        self.assertEqual(fields - {"train.heads", "train.decides"}, set(DECISION_PARAMETERS))
        listed = [line.split(" = ")[0] for line in self._text(self.old, "config.gin").splitlines()]
        self.assertContainsSubset(DECISION_PARAMETERS, listed)

    @pytest.mark.slow
    def test_folds_and_their_refit(self):
        run, fresh, flags = self.folder / "folds", self.folder / "fresh-folds", ("--folds", "2", "--refit")
        last = ("train.keep = 'last'", "train.epochs = 1")
        self._train(run, *last, flags=flags)
        models = {path: path.read_bytes() for path in run.glob("*/model.keras")}
        self.assertLen(models, 3)
        self._train(run, *last, *OTHER, flags=flags)
        self._train(fresh, *last, *OTHER, flags=flags)
        for path, content in models.items():
            self.assertEqual(path.read_bytes(), content)
            for name in ("config.gin", "decision.json"):
                self.assertEqual(self._text(path.parent, name), self._text(fresh / path.parent.name, name))
        self.assertEqual(json.loads(self._text(run / "refit"))["operating_point"], "specificity_0.9")


if __name__ == "__main__":
    tf.test.main()
