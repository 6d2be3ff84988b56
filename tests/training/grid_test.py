"""Grid search: trials, their table, resuming, and TensorBoard's HParams tab."""

import json
import pathlib
import tempfile
import time
import urllib.request

import tensorboard.program
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dr_tf.console import UserError
from dr_tf.training.grid import Grid, as_gin, run_grid, trials_table

RISING = ("val_kappa", "max")


class GridTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.tried = []

    def _trial(self, values, folder):
        self.tried.append(values)
        if values["a.rate"] == 9:
            raise UserError("the loss is nan\nand more")
        if values["a.rate"] == "text":
            raise TypeError("not a number")
        return [{"val_kappa": 0.1, "loss": 1.0}, {"val_kappa": values["a.rate"] / 10, "loss": 1.0}]

    def _run(self, grid, objective=RISING):
        return run_grid(grid, run_dir=self.folder, run_trial=self._trial, objective=objective)

    def test_every_combination_and_a_table_with_the_best_first(self):
        rows = self._run(Grid({"a.rate": [2, 5], "a.name": ["x", "y"]}))
        self.assertEqual([(r["a.rate"], r["a.name"]) for r in rows], [(2, "x"), (2, "y"), (5, "x"), (5, "y")])
        lines = (self.folder / "trials.md").read_text().splitlines()
        self.assertEqual(lines[0], "| trial | a.rate | a.name | val_kappa | epoch |")
        self.assertEqual(lines[2], "| 2 | 5 | x | 0.5 | 2 |")

    def test_a_failed_trial_is_recorded_and_the_others_run(self):
        rows = self._run(Grid({"a.rate": [9, 3]}))
        self.assertEqual(rows[0], {"trial": 0, "a.rate": 9, "error": "the loss is nan"})
        self.assertEqual(rows[1]["val_kappa"], 0.3)
        self.assertIn("the loss is nan", trials_table(rows, RISING).splitlines()[-1])
        other = self._run(Grid({"a.rate": [9, 3, "text"]}))
        self.assertEqual(other[2]["error"], "not a number")

    def test_an_interrupted_grid_resumes(self):
        self._run(Grid({"a.rate": [9, 3]}))
        self.tried.clear()
        rows = self._run(Grid({"a.rate": [9, 3, 4]}))
        self.assertEqual([values["a.rate"] for values in self.tried], [9, 4])
        self.assertEqual([row.get("val_kappa") for row in rows], [None, 0.3, 0.4])

    def test_another_grid_in_the_same_folder_is_refused(self):
        self._run(Grid({"a.rate": [3]}))
        with self.assertRaisesRegex(UserError, r"trial-000 .*\(a.rate = 3\)"):
            self._run(Grid({"a.rate": [4]}))

    def test_values_of_any_type_are_recognized_when_resuming(self):
        grid = Grid({"a.rate": [1], "a.range": [(0.5, 2), None], "a.part": ["@b()"]})
        self._run(grid)
        self.tried.clear()
        rows = self._run(grid)
        self.assertEqual(self.tried, [])
        self.assertEqual(rows[0]["a.range"], (0.5, 2))
        self.assertEqual(as_gin(next(grid.trials())), ["a.rate = 1", "a.range = (0.5, 2)", "a.part = @b()"])

    def test_the_objective_is_a_metric_of_the_validation_split(self):
        with self.assertRaisesRegex(UserError, "begin with val_"):
            self._run(Grid({"a.rate": [1]}), ("loss", "min"))
        rows = self._run(Grid({"a.rate": [1]}), ("val_auroc", "max"))
        self.assertIn("known: val_kappa", rows[0]["error"])

    def test_the_grid_s_objective_overrides_the_experiment_s(self):
        rows = self._run(Grid({"a.rate": [5]}, objective=("val_kappa", "min")), ("val_auroc", "max"))
        self.assertEqual(rows[0]["val_kappa"], 0.1)

    def test_hparams_are_written_for_tensorboard(self):
        self._run(Grid({"a.rate": [2]}))
        events = EventAccumulator(str(self.folder / "trial-000" / "tensorboard")).Reload()
        self.assertIn("val_kappa", events.Tags()["tensors"])
        started = events.SummaryMetadata("_hparams_/session_start_info")
        self.assertEqual(started.plugin_data.plugin_name, "hparams")
        self.assertEqual(json.loads((self.folder / "trial-000" / "outcome.json").read_text())["val_kappa"], 0.2)

    def test_a_real_tensorboard_tabulates_the_trials(self):
        self._run(Grid({"a.rate": [2, 9, 5], "a.range": [None, (0, 1)]}))
        board = tensorboard.program.TensorBoard()
        board.configure(argv=[None, "--logdir", str(self.folder), "--port", "0", "--load_fast", "false"])
        url = board.launch() + "data/plugin/hparams/session_groups"
        wanted = json.dumps({"sliceSize": 9, "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_RUNNING"]}).encode()
        request = urllib.request.Request(url, wanted, {"Content-Type": "application/json"})
        for _ in range(100):
            with urllib.request.urlopen(request) as answer:
                groups = json.load(answer).get("sessionGroups", [])
            if len(groups) == 4:
                break
            time.sleep(0.2)
        self.assertEqual([group["name"] for group in groups], ["trial-000", "trial-001", "trial-004", "trial-005"])
        self.assertEqual(groups[3]["hparams"], {"a.rate": 5.0, "a.range": "(0, 1)"})
        shown = {metric["name"]["tag"]: metric["value"] for metric in groups[3]["metricValues"]}
        self.assertAllClose(shown, {"val_kappa": 0.5, "epoch": 2.0})
