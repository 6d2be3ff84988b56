"""A run directory from a stranger runs no code, whichever command reads it and whichever file was prepared.

A canary module on the import path writes a file when it is imported, and a pickled canary writes it when it is loaded.
"""

import contextlib
import io
import json
import pathlib
import pickle
import shutil
import sys
import tempfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import evaluate
import train
from dr_tf import ensemble, predict
from dr_tf.explain import __main__ as explain
from tests import canary, tiny
from tests.canary import GIN, Pickled


class HostileRunTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder, cls.hit = canary.lay(cls)
        cls.run_dir = tiny.run_dir()

    def commands(self, run):
        """{name: a call of every command that reads a run}."""
        output, image = pathlib.Path(tempfile.mkdtemp(dir=self.folder)), tiny.photographs()[0]
        records = ["--records", tiny.records_root()]
        new = ["--gin_file", tiny.records_root().parent / "config.gin", "--run_dir", output / "new", "--init_from", run]
        both = ["--run_dirs", run, self.run_dir, "--run_dir", output / "both"]
        return {
            "predict": (predict.main, ["--run_dir", run, image]),
            "predict --mode knn": (predict.main, ["--run_dir", run, "--mode", "knn", image]),
            "explain": (explain.main, ["--run_dir", run, "--output", output / "why", image]),
            "evaluate": (evaluate.main, ["--run_dir", run, *records, "--bootstrap_samples", 5]),
            "evaluate --split folds": (evaluate.main, ["--run_dir", run.parent, *records, "--split", "folds"]),
            "ensemble": (ensemble.main, [*both, *records, "--modes"]),
            "train --init_from": (train.main, [*new, *records]),
        }

    def stranger(self, name="fold-0"):
        """A fresh copy of a good run, in a folder where it is the only fold."""
        return pathlib.Path(shutil.copytree(self.run_dir, pathlib.Path(tempfile.mkdtemp(dir=self.folder)) / name))

    def check(self, run, names):
        for name in names:
            main, arguments = self.commands(run)[name]
            sys.modules.pop("canary_payload", None)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                try:
                    main([str(argument) for argument in arguments])
                except SystemExit as ended:
                    self.assertIn(ended.code, (None, 0, 1, 2), name)
            self.assertFalse(self.hit.exists(), f"{name} ran the canary")

    def test_the_canary_works(self):
        run = self.stranger()
        (run / "x.pickle").write_bytes(pickle.dumps(Pickled()))
        with open(run / "x.pickle", "rb") as file:
            pickle.load(file)
        self.assertTrue(self.hit.exists())
        self.hit.unlink()
        sys.modules.pop("canary_payload")

    @pytest.mark.slow
    def test_gin_in_a_config(self):
        for kind, text in GIN.items():
            with self.subTest(kind):
                run = self.stranger()
                (run / "config.gin").write_text(
                    text.format(folder=self.folder) + (self.run_dir / "config.gin").read_text()
                )
                names = self.commands(run) if kind == "import" else ("predict", "ensemble")
                self.check(run, names)

    @pytest.mark.slow
    def test_gin_in_every_other_file(self):
        for path in sorted(self.run_dir.rglob("*")):
            name = path.relative_to(self.run_dir).as_posix()
            if path.is_file() and path.suffix in (".json", ".npz", ".csv", ".jsonl") and "evaluation" not in name:
                with self.subTest(name):
                    run = self.stranger()
                    (run / name).write_text(GIN["import"])
                    self.check(run, ("predict --mode knn", "explain", "ensemble", "train --init_from"))

    @pytest.mark.slow
    def test_pickles_in_arrays(self):
        for path in sorted(self.run_dir.glob("*.npz")):
            with self.subTest(path.name):
                run = self.stranger()
                with np.load(path) as arrays:
                    poisoned = {key: np.array([Pickled()], object) for key in arrays}
                np.savez(run / path.name, **poisoned)
                self.check(
                    run, ("predict --mode knn", "evaluate", "ensemble", "train --init_from", "evaluate --split folds")
                )

    def test_code_in_a_model(self):
        for layer in (
            {"module": "canary_payload", "class_name": "payload", "config": {}, "registered_name": "payload"},
            {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "x", "function": {
                "class_name": "__lambda__", "config": {"code": "4wEA", "defaults": None, "closure": None}}}},
            {"module": "builtins", "class_name": "exec", "config": {"args": ["import canary_payload"]}},
        ):  # fmt: skip
            with self.subTest(layer["class_name"]):
                run = self.stranger()
                self._poison(run / "model.keras", layer)
                self.check(run, ("predict", "explain", "evaluate", "ensemble", "train --init_from"))

    def test_paths_and_sizes_in_an_archive(self):
        """A member outside of the folder, and one that unpacks to a thousand times its size."""
        for member in ("../hit", str(self.hit), "assets/../../hit", "assets/zeros"):
            for name in ("model.keras", "gate.npz"):
                with self.subTest(member=member, file=name):
                    run = self.stranger()
                    with zipfile.ZipFile(run / name, "a", zipfile.ZIP_DEFLATED) as archive:
                        archive.writestr(member, bytes(200_000_000 if "zeros" in member else 9))
                    self.check(run, ("predict",))

    def _poison(self, path, layer):
        with zipfile.ZipFile(self.run_dir / "model.keras") as given, zipfile.ZipFile(path, "w") as poisoned:
            for name in given.namelist():
                data = given.read(name)
                if name == "config.json":
                    config = json.loads(data)
                    config["config"]["layers"][1] = layer | {"name": "x", "inbound_nodes": []}
                    data = json.dumps(config).encode()
                poisoned.writestr(name, data)


if __name__ == "__main__":
    tf.test.main()
