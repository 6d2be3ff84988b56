"""Run directories: one config, one process; and atomic writes."""

import contextlib
import pathlib
import subprocess
import sys
import tempfile
import unittest

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.training.run_directory import RunDirectory

HOLD = "import sys; from dr_tf.training.run_directory import RunDirectory as R; r = R(sys.argv[1]); print(1, flush=True); input()"


class RunDirectoryTest(unittest.TestCase):
    def setUp(self):
        self.path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "run"

    def test_another_config_is_refused_with_the_first_difference(self):
        with RunDirectory(self.path) as run:
            run.keep_config("# head\na.x = 1\na.y = 2\n")
        with RunDirectory(self.path) as run:
            run.keep_config("# head\na.x = 1\na.y = 2\n")
            with self.assertRaisesRegex(UserError, r"there: a.y = 2; here: a.y = 3"):
                run.keep_config("# head\na.x = 1\na.y = 3\n")

    def test_what_decides_may_differ(self):
        config = "# head\ntrain.epochs = 2\ntrain.modes = ('knn',)\ntrain.prior = 'train'\ntrain.seed = 0"
        long = "\\\n    ('knn', 'tta4',\n     'plain+knn')"  # as gin breaks a long line
        other = config.replace("('knn',)", long).replace("train.prior = 'train'\n", "")
        for text in (config, other, config):
            with RunDirectory(self.path) as run:
                run.keep_config(text)  # not finished, so the new one counts
                self.assertEqual(((self.path / "config.gin").read_text(), run.decision_is_outdated), (text, False))
                for wrong in (text.replace("epochs = 2", "epochs = 3"), text.replace("train.seed", "train.modes_seed")):
                    with self.assertRaisesRegex(
                        UserError, "there: train.(epochs = 2; here|seed = 0; here: train.modes_)"
                    ):
                        run.keep_config(wrong)

    def test_a_finished_run_keeps_its_config_until_its_rule_is_fitted_anew(self):
        old, new = "train.seed = 0\ntrain.prior = 'train'\n", "train.seed = 0\ntrain.prior = 'uniform'\n"
        with RunDirectory(self.path) as run:
            run.keep_config(old)
            (self.path / "model.keras").touch()
            with contextlib.suppress(KeyboardInterrupt):
                run.keep_config(new)
                self.assertTrue(run.decision_is_outdated)
                with run.refitting():
                    raise KeyboardInterrupt
            self.assertEqual((self.path / "config.gin").read_text(), old)
            run.keep_config(old)
            self.assertTrue(run.decision_is_outdated)  # the rule may be the new one
            run.keep_config(new)
            with run.refitting():
                pass
            self.assertEqual((self.path / "config.gin").read_text(), new)
            run.keep_config(new)
            self.assertFalse(run.decision_is_outdated)

    def test_what_a_killed_process_left_half_written_is_removed(self):
        RunDirectory(self.path).__exit__()
        (self.path / ".unfinished-1-model.keras").touch()
        RunDirectory(self.path).__exit__()
        self.assertEqual([path.name for path in self.path.iterdir()], [".lock"])

    def test_a_folder_of_something_else_is_refused(self):
        self.path.mkdir()
        (self.path / "thesis.txt").write_text("mine")
        with self.assertRaisesRegex(UserError, "neither empty nor a run directory"):
            RunDirectory(self.path)

    def test_one_process_at_a_time(self):
        other = subprocess.Popen([sys.executable, "-c", HOLD, str(self.path)], stdin=-1, stdout=-1)
        other.stdout.readline()
        with self.assertRaisesRegex(UserError, "another process"):
            RunDirectory(self.path)
        other.kill()
        other.communicate()
        RunDirectory(self.path).__exit__()

    def test_a_file_in_the_way(self):
        self.path.write_text("")
        with self.assertRaisesRegex(UserError, "cannot be used"):
            RunDirectory(self.path)


class FilesTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_whole_or_not_at_all(self):
        path = self.folder / "a" / "b.json"
        with self.assertRaises(RuntimeError), files.atomic_write(path) as unfinished:
            unfinished.write_text("half")
            raise RuntimeError
        self.assertEqual(list(path.parent.iterdir()), [])
        files.write_json(path, {"x": 1})
        self.assertEqual(path.read_text(), '{\n  "x": 1\n}\n')

    def test_a_folder_takes_the_place_of_a_folder(self):
        for text in ("old", "new"):
            with files.atomic_write(self.folder / "f") as unfinished:
                unfinished.mkdir()
                (unfinished / text).write_text(text)
        self.assertEqual([p.name for p in (self.folder / "f").iterdir()], ["new"])

    def test_a_link_to_a_folder_is_replaced_and_the_folder_kept(self):
        (self.folder / "kept").mkdir()
        (self.folder / "new").mkdir()
        (self.folder / "link").symlink_to(self.folder / "kept")
        files.replace(self.folder / "new", self.folder / "link")
        self.assertFalse((self.folder / "link").is_symlink())
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"kept", "link"})

    def test_no_room_or_no_right_is_one_line(self):
        (self.folder / "file").write_text("")
        with self.assertRaisesRegex(UserError, "cannot be written"):
            files.write_text(self.folder / "file" / "below", "x")
