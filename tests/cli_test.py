"""The `dr_tf` command: subcommands, help texts, exit statuses, and absl's flags on train and evaluate."""

import pathlib
import subprocess
import sys
import unittest

from dr_tf.cli.main import COMMANDS, main
from dr_tf.console import EXIT_USER_ERROR
from tests import commands

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _python(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)


class CommandTest(unittest.TestCase):
    def test_help_lists_every_command_with_its_summary(self):
        status, stdout, _ = commands.run(main, "--help")
        self.assertEqual(status, 0)
        words = " ".join(stdout.split())
        for name, (_, summary) in COMMANDS.items():
            self.assertIn(f"{name} {summary}", words)

    def test_help_of_a_command_names_it(self):
        for name in COMMANDS:
            with self.subTest(name):
                status, stdout, _ = commands.run(main, name, "--help")
                self.assertEqual((status, stdout.split()[:3]), (0, ["usage:", "dr_tf", name]))

    def test_examples_name_the_program_that_was_called(self):
        self.assertIn("  dr_tf train --gin_file quickstart", commands.run(main, "train", "--help")[1])
        self.assertIn("  python train.py --gin_file quickstart", _python("train.py", "--help").stdout)

    def test_wrong_use(self):
        for arguments, message in {
            (): "the following arguments are required: COMMAND",
            ("prdict",): "invalid choice: 'prdict'",
            ("predict",): "dr_tf predict: error: the following arguments are required",
        }.items():
            status, stdout, stderr = commands.run(main, *arguments)
            self.assertEqual((status, stdout), (EXIT_USER_ERROR, ""))
            self.assertIn(message, stderr)

    def test_flags_that_exclude_or_need_each_other(self):
        train = ("train", "--gin_file", "quickstart", "--records", "r", "--run_dir", "x")
        evaluate = ("evaluate", "--run_dir", "x", "--records", "r", "--split", "folds")
        for arguments, message in {
            (*train, "--refit"): "--fold and --refit need --folds",
            (*train, "--folds", "1"): "--folds must be 2 or more, not 1",
            (*train, "--folds", "2", "--grid_file", "quickstart"): "--grid_file and --folds exclude each other",
            ("evaluate", "--run_dir", "x"): "--run_dir and --records are needed",
            (*evaluate, "--dataset", "odir"): "no --dataset, no --label_shift",
            (*evaluate, "--explain", "grad_cam"): "--explain needs one network: use --run_dir RUN/fold-K",
            (*evaluate[:-1], "sources", "--explain", "grad_cam"): "one network: use --run_dir RUN/source-NAME",
            (*evaluate[:-1], "sources", "--dataset", "odir"): "--split sources evaluates the run's own records",
            ("predict", "--batch_size", "0", "x.jpg"): "--batch_size must be 1 or more, not 0",
        }.items():
            status, _, stderr = commands.run(main, *arguments)
            self.assertEqual(status, EXIT_USER_ERROR, arguments)
            self.assertIn(message, stderr)

    def test_an_unknown_config_is_reported_before_tensorflow_starts(self):
        arguments = ("--gin_file", "idrid_trnsfer", "--records", "r", "--run_dir", "x")
        status, _, stderr = commands.run(main, "train", *arguments)
        self.assertEqual((status, stderr.count("\n")), (EXIT_USER_ERROR, 1))
        self.assertIn("did you mean idrid_transfer", stderr)


class AbslFlagsTest(unittest.TestCase):
    def test_verbosity_is_accepted_and_listed_by_helpfull(self):
        for script in ("train.py", "evaluate.py"):
            process = _python(script, "--helpfull")
            self.assertEqual(process.returncode, 0, process.stderr)
            self.assertIn("--verbosity", process.stdout)
            self.assertNotIn("--verbosity:", _python(script, "--help").stdout)

    def test_exit_statuses_under_absl_app(self):
        train = ("--records", "none", "--run_dir", "none", "--verbosity=-1", "--gin_file")
        process = _python("train.py", *train, "no_such_config")
        self.assertEqual(process.returncode, EXIT_USER_ERROR)
        self.assertTrue(process.stderr.startswith("error: there is no config 'no_such_config'"), process.stderr)
        for flag in ("--verbosity=high", "--flagfile=no_such_file", "--no_such_flag"):
            process = _python("evaluate.py", "--run_dir", "x", "--records", "r", flag)
            self.assertEqual(process.returncode, EXIT_USER_ERROR)
            self.assertRegex(process.stderr, r"(?s)^usage: .*\npython evaluate.py: error: [^\n]*\n$")


if __name__ == "__main__":
    unittest.main()
