"""The command line of the records builder: help texts and unknown layouts."""

import pathlib
import subprocess
import sys
import unittest

import pytest

from tfrecords_builder.layouts import known_layouts

ROOT = pathlib.Path(__file__).parents[2]


def help_of(*arguments):
    """Return the help text of a command."""
    command = [sys.executable, "-m", "tfrecords_builder", *arguments, "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


class CommandTest(unittest.TestCase):
    def test_help_lists_the_layouts(self):
        text = help_of()
        for name, layout in known_layouts().items():
            self.assertIn(name, text)
            self.assertIn(layout.summary, text)

    @pytest.mark.slow
    def test_help_of_each_layout_shows_its_tree_and_flags(self):
        for name in known_layouts():
            with self.subTest(name):
                text = help_of(name)
                for part in ("SOURCE/", "--source", "--records", "--workers", "--overwrite", "builder_from_directory"):
                    self.assertIn(part, text)

    def test_help_of_idrid_says_licence_origin_tree_and_counts(self):
        text = help_of("idrid")
        for part in (
            "Licence: CC BY 4.0",
            "IEEE DataPort",
            "a. Training Set/IDRiD_001.jpg",
            "a. IDRiD_Disease Grading_Training Labels.csv",
            "134, 20, 136, 74, 49; test 34, 5, 32, 19, 13",
        ):
            self.assertIn(part, text)

    def test_unknown_layout_lists_the_known_ones(self):
        result = subprocess.run(
            [sys.executable, "-m", "tfrecords_builder", "messidor"], cwd=ROOT, capture_output=True, text=True
        )
        self.assertEqual(result.returncode, 2)
        self.assertNotIn("Traceback", result.stderr)
        for name in known_layouts():
            self.assertIn(name, result.stderr)

    def test_tensorflow_is_not_imported_before_it_writes(self):
        # Nor in the worker processes, which import crops.
        modules = [
            "__main__",
            "build",
            "crops",
            "layouts",
            "contact_sheet",
            "splits",
            "build_summary",
            "tables",
            "workers",
        ]
        code = "import sys\n" + "".join(f"import tfrecords_builder.{module}\n" for module in modules)
        code += "from tfrecords_builder.layouts import known_layouts\nknown_layouts()\n"
        code += "print([m for m in ('tensorflow', 'keras', 'tensorflow_datasets') if m in sys.modules])"
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(result.stdout.strip(), "[]")


if __name__ == "__main__":
    unittest.main()
