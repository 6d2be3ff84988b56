"""Configs are found by path or by the name of a shipped one, and their includes from any working directory."""

import contextlib
import pathlib
import tempfile
import unittest

from dr_tf.config_files import find_config, find_grid, shipped_folder
from dr_tf.console import UserError


class FindTest(unittest.TestCase):
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(contextlib.chdir(folder))

    def test_a_shipped_name(self):
        for name in ("idrid_transfer", "idrid_transfer.gin"):
            self.assertEqual(find_config(name), str(shipped_folder() / "experiments" / "idrid_transfer.gin"))

    def test_experiments_and_grids_may_have_one_name(self):
        self.assertEqual(pathlib.Path(find_config("quickstart")).parent, shipped_folder())
        self.assertEqual(pathlib.Path(find_grid("quickstart")).parent, shipped_folder() / "grids")

    def test_a_file_comes_before_a_shipped_name(self):
        pathlib.Path("quickstart").write_text("")
        self.assertEqual(find_config("quickstart"), "quickstart")

    def test_a_path_is_no_name(self):
        with self.assertRaisesRegex(UserError, "there is no config 'mine/quickstart.gin'"):
            find_config("mine/quickstart.gin")

    def test_unknown_names_list_similar_ones(self):
        with self.assertRaisesRegex(UserError, r"no config 'idrid_trnsfer'.*did you mean idrid_transfer"):
            find_config("idrid_trnsfer")
        with self.assertRaisesRegex(UserError, r"no grid 'x'.*dr_tf comes with idrid_resnetv2, quickstart$"):
            find_grid("x")


class IncludeTest(unittest.TestCase):
    def setUp(self):
        from dr_tf import configuration

        self.parse = configuration.parse
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(contextlib.chdir(self.folder))

    def _bound(self, name):
        import gin

        return gin.query_parameter(name)

    def test_shipped_configs_are_parsed_in_any_working_directory(self):
        pathlib.Path("base.gin").write_text("train.epochs = 1\ntrain.no_such_parameter = 1\n")
        self.parse([find_config("quickstart")])
        self.assertEqual(self._bound("train.epochs"), 25)

    def test_own_configs_include_what_lies_beside_them_and_shipped_ones(self):
        own = self.folder / "own"
        own.mkdir()
        (own / "more.gin").write_text("train.seed = 7\n")
        (own / "experiment.gin").write_text("include 'idrid_transfer.gin'\ninclude 'more.gin'\n")
        self.parse(["own/experiment.gin"], ["train.epochs = 3"])
        self.assertEqual([self._bound(f"train.{name}") for name in ("seed", "epochs")], [7, 3])
        self.assertEqual(self._bound("backbone.trainable_from"), "P3")


if __name__ == "__main__":
    unittest.main()
