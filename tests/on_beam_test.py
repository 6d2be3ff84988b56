"""Decisions on Apache Beam are those of a local run, row for row, and a stopped run continues."""

import importlib.util
import json
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

from dr_tf.cli import predict
from dr_tf.inference.case import Case, Frames
from tests import commands
from tests.explain.runs import write_run
from tests.tfrecords_builder import trees

BEAM = importlib.util.find_spec("apache_beam")


@unittest.skipUnless(BEAM, "apache-beam is not installed")
class CasesTest(unittest.TestCase):
    def test_cases_are_written_and_read(self):
        from dr_tf import on_beam

        case = Case("a (left eye)", {"": (Frames("/a", (1, 3)),), "left": ("/b", "/c")}, 61.0, "female")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / on_beam.CASES
            path.write_text(on_beam._case_line(case) + "\n")
            self.assertEqual(on_beam._read_cases(path.parent, 0, 4), [case])


class InFolder(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        write_run(cls.root / "run")
        cls.source = cls.root / "photographs"
        trees.write_photographs(cls.source, [f"{number:02d}.jpg" for number in range(9)])
        trees.write(cls.source / "05.jpg", trees.jpeg(trees.photograph(5))[:2000])

    def predict(self, *flags):
        arguments = ("--run_dir", self.root / "run", "--batch_size", 2, *flags, self.source)
        self.status, told, self.errors = commands.run(predict.main, *arguments)
        self.assertNotIn("Traceback", self.errors)
        return told

    def on_beam(self, output, *flags):
        beam = ("--beam_runner", "DirectRunner", "--output", self.root / output, "--shard_size", 4)
        self.predict(*beam, *flags)
        return sorted((self.root / output).glob("decisions-*"))


@unittest.skipUnless(BEAM, "Apache Beam is not installed: pip install -c constraints.txt -e '.[beam]'")
class OnBeamTest(InFolder):
    def test_shards_are_the_rows_of_a_local_run(self):
        shards = self.on_beam("csv")
        self.assertEqual(self.status, 1, self.errors)  # one photograph must be retaken
        self.assertEqual([path.name for path in shards], [f"decisions-{n:05d}-of-00003.csv" for n in range(3)])
        rows = [line for n, path in enumerate(shards) for line in path.read_text().splitlines()[n > 0 :]]
        self.assertEqual(rows, self.predict("--format", "csv").splitlines())
        self.assertIn("retake: 1", self.errors)

    def test_json_lines_and_options(self):
        options = ("--prevalence", 0.1, "--format", "json")
        shards = self.on_beam("json", *options)
        rows = [json.loads(line) for path in shards for line in path.read_text().splitlines()]
        self.assertEqual(rows, [json.loads(line) for line in self.predict(*options).splitlines()])

    def test_a_stopped_run_continues_with_the_missing_shards(self):
        shards = self.on_beam("stopped")
        before = shards[1].read_bytes()
        shards[0].write_text("action\nclear\n")  # shows that it is not made again
        shards[1].unlink()
        self.assertEqual(self.on_beam("stopped"), shards)
        self.assertEqual((shards[0].read_text(), shards[1].read_bytes()), ("action\nclear\n", before))
        self.assertEqual(self.on_beam("stopped", "--format", "json"), shards)
        self.assertIn("holds decisions on other photographs or with other settings", self.errors)

    def test_mistakes_are_one_line(self):
        for flags, said in (
            (("--beam_runner", "Nowhere", "--output", self.root / "x"), "error: --beam_runner Nowhere"),
            (
                ("--beam_runner", "DirectRunner", "--output", self.root / "x", "--shard_size", 5),
                "does not hold whole batches",
            ),
            (
                ("--beam_runner", "DirectRunner", "--output", self.root / "x", "--patients"),
                "--patients does not go with",
            ),
            (("--beam_runner", "DirectRunner"), "--beam_runner and --output go together"),
        ):
            with self.subTest(said):
                self.predict(*flags)
                self.assertEqual(self.status, 2)
                self.assertIn(said, self.errors.splitlines()[-1])


class WithoutBeamTest(InFolder):
    def test_error_names_the_extra_to_install(self):
        with mock.patch.dict(sys.modules, {"apache_beam": None}):
            self.on_beam("absent")
        self.assertEqual(self.status, 2)
        self.assertRegex(self.errors, r"error: --beam_runner needs Apache Beam: pip install .*beam")


if __name__ == "__main__":
    unittest.main()
