"""Imports point downward, TensorFlow is imported only where it is needed, and commands start fast."""

import ast
import pathlib
import resource
import subprocess
import sys
import unittest

from dr_tf.cli.main import COMMANDS

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Room -> layer. A room imports rooms of lower layers only; rooms on one layer do not import each other.
LAYERS = {
    "dr_tf.grades": 0, "dr_tf.archives": 0, "dr_tf.console": 0, "dr_tf.safe_names": 0, "dr_tf.image_files": 0,
    "dr_tf.files": 1, "dr_tf.config_files": 1, "dr_tf.process": 1, "dr_tf.parameters": 1, "dr_tf.rendering": 1, "dr_tf.metrics": 1, "dr_tf.fundus": 1,
    "dr_tf.models": 2, "dr_tf.signed_files": 2, "dr_tf.buckets": 2,
    "dr_tf.inference": 3,
    "dr_tf.explain": 4, "dr_tf.data": 4, "dr_tf.dicom_reports": 4, "dr_tf.on_beam": 4,
    "dr_tf.training": 5, "dr_tf.evaluation": 5,
    "dr_tf.export": 6, "dr_tf.configuration": 6, "dr_tf.app": 6, "dr_tf.serve": 6, "dr_tf.runtime": 6,
    "dr_tf.api": 7,
    "dr_tf.cli": 8,
    "train": 9, "evaluate": 9, "dr_tf.predict": 9, "dr_tf.ensemble": 9, "dr_tf.__main__": 9,
}  # fmt: skip
# Rooms that may import less than everything below them.
ONLY = {
    "tfrecords_builder": {
        "tfrecords_builder",
        "dr_tf.fundus",
        "dr_tf.grades",
        "dr_tf.console",
        "dr_tf.files",
        "dr_tf.process",
        "dr_tf.runtime",
        "dr_tf.data",
        "dr_tf.buckets",
        "dr_tf.safe_names",
        "dr_tf.image_files",
    },
    "dr_tf.serve": {
        "dr_tf.serve",
        "dr_tf.inference",
        "dr_tf.fundus",
        "dr_tf.grades",
        "dr_tf.console",
        "dr_tf.safe_names",
        "dr_tf.__version__",
    },
    "dr_tf.app": {
        "dr_tf.app",
        "dr_tf.explain",
        "dr_tf.inference",
        "dr_tf.fundus",
        "dr_tf.grades",
        "dr_tf.console",
        "dr_tf.rendering",
        "dr_tf.safe_names",
        "dr_tf.__version__",
        "dr_tf.cli",  # of `python -m dr_tf.app`
        "dr_tf.process",
    },
}
MAY_IMPORT_THE_BUILDER = ("tfrecords_builder", "dr_tf.api", "dr_tf.cli")
# Rooms that need only these packages, besides the standard library.
LIGHT = {"dr_tf.grades": set(), "dr_tf.config_files": set(), "dr_tf.fundus": {"numpy", "cv2", "pydicom"}}
HEAVY = {"tensorflow", "keras", "keras_hub", "keras_cv", "tensorflow_datasets"}
MAY_USE_TENSORFLOW = ("dr_tf.metrics", "dr_tf.models", "dr_tf.data", "dr_tf.explain", "dr_tf.training",
                      "dr_tf.evaluation", "dr_tf.export", "dr_tf.configuration",
                      "tfrecords_builder.records", "tfrecords_builder.audit_sets",
                      "dr_tf.inference.saved_model_network")  # fmt: skip
CHANGE_THEIR_PROCESS = ("dr_tf.cli.", "tfrecords_builder.__main__")


def _paths():
    folders = ("dr_tf", "tfrecords_builder")
    return [*(p for folder in folders for p in ROOT.glob(f"{folder}/**/*.py")), ROOT / "train.py", ROOT / "evaluate.py"]


def _modules():
    for path in _paths():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, set(_imports(path))


def _imports(path):
    """Yield the absolute name of everything that a file imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(name):
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "dr_tf" else parts[0]


def _layer(name):
    """Return the layer of a module. `python -m ROOM` is an entry script on top, wherever its room is."""
    return LAYERS["train"] if name.endswith(".__main__") else LAYERS.get(_room(name))


def _public_functions(tree, prefix=""):
    """Yield (name, node) of the public functions and of the public methods of public classes."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield prefix + node.name, node


def _without_annotation(node, is_method):
    """Return the names of the parameters of a function that have no annotation, and "return" if the result has none."""
    parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    if is_method and parameters and parameters[0].arg in ("self", "cls"):
        parameters = parameters[1:]
    parameters += [p for p in (node.args.vararg, node.args.kwarg) if p is not None]
    missing = [p.arg for p in parameters if p.annotation is None]
    return missing if node.returns is not None else [*missing, "return"]


def _run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


class LayersTest(unittest.TestCase):
    def test_every_room_has_a_layer(self):
        rooms = {_room(name) for name, _ in _modules()} - {"dr_tf"}
        self.assertLessEqual(rooms, set(LAYERS) | set(ONLY))

    def test_imports_point_downward(self):
        for name, imports in _modules():
            own, layer = _room(name), _layer(name)
            for other in {_room(i) for i in imports if i.startswith("dr_tf.")} & set(LAYERS):
                if own in LAYERS and own != other:
                    self.assertLess(LAYERS[other], layer, f"{name} imports {other}")

    def test_some_rooms_may_import_less(self):
        for name, imports in _modules():
            if allowed := ONLY.get(_room(name)):
                used = {_room(i) for i in imports if i.startswith(("dr_tf.", "tfrecords_builder"))}
                self.assertLessEqual(used, allowed, name)

    def test_only_commands_and_the_api_import_the_builder(self):
        for name, imports in _modules():
            if any(i.startswith("tfrecords_builder") for i in imports):
                self.assertTrue(name.startswith(MAY_IMPORT_THE_BUILDER), f"{name} imports tfrecords_builder")

    def test_light_rooms_need_few_packages(self):
        for name, imports in _modules():
            if (allowed := LIGHT.get(_room(name))) is not None:
                used = {i.split(".")[0] for i in imports} - set(sys.stdlib_module_names) - {"dr_tf"}
                self.assertLessEqual(used, allowed, name)

    def test_tensorflow_is_imported_only_where_it_may_be(self):
        for name, imports in _modules():
            if HEAVY & {i.split(".")[0] for i in imports}:
                self.assertTrue(name.startswith(MAY_USE_TENSORFLOW), f"{name} imports TensorFlow")

    def test_every_command_prepares_its_process_for_tensorflow_and_nothing_else_does(self):
        imports_of = dict(_modules())
        for name, imports in imports_of.items():
            if "dr_tf.runtime.starting_tensorflow" in imports:
                self.assertTrue(name.startswith(CHANGE_THEIR_PROCESS), name)
        for module, _ in COMMANDS.values():
            self.assertIn("dr_tf.runtime.starting_tensorflow", imports_of[module])


class AnnotationTest(unittest.TestCase):
    def test_every_module_has_a_docstring(self):
        for path in _paths():
            self.assertTrue(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path)

    def test_public_functions_have_full_annotations_and_a_docstring(self):
        for path in _paths():
            for name, node in _public_functions(ast.parse(path.read_text(encoding="utf-8"))):
                self.assertEqual(_without_annotation(node, "." in name), [], f"{path} {name}")
                self.assertTrue(ast.get_docstring(node), f"{path} {name}")


class StartTest(unittest.TestCase):
    def test_import_is_fast(self):
        _run("import dr_tf")  # fills the byte code cache
        seconds = [
            float(_run("import time; t = time.process_time(); import dr_tf; print(time.process_time() - t)"))
            for _ in range(3)
        ]
        self.assertLess(min(seconds), 0.2)

    def test_predict_starts_its_worker_before_it_imports_numpy(self):
        """Both processes then import at the same time: the first answer comes half a second earlier."""
        code = (
            "import os, sys\nfrom dr_tf.cli import predict\nfrom dr_tf.fundus import subprocesses\n"
            "def start(): print('numpy' in sys.modules, flush=True); os._exit(0)\n"
            "subprocesses.start_shared_worker = start\npredict.main(['absent.jpg'])"
        )
        self.assertEqual(_run(code).strip(), "False")

    def test_fundus_does_not_load_tensorflow(self):
        code = (
            "import pkgutil, importlib, sys, dr_tf.fundus as f\n"
            "for m in pkgutil.walk_packages(f.__path__, 'dr_tf.fundus.'): importlib.import_module(m.name)\n"
            "print(sorted(set(sys.modules) & {'tensorflow', 'keras', 'sklearn', 'matplotlib', 'PIL', 'pydicom'}))"
        )
        self.assertEqual(_run(code).strip(), "[]")

    def test_the_list_of_commands_loads_nothing_heavy(self):
        code = (
            "import contextlib, sys\nfrom dr_tf.cli.main import main\n"
            "with contextlib.suppress(SystemExit): main(['--help'])\n"
            "print(sorted(set(sys.modules) & {'numpy', 'cv2', 'tensorflow', 'keras', 'absl'}))"
        )
        self.assertEqual(_run(code).splitlines()[-1], "[]")
        self.assertTrue(any(_cpu_seconds(["-m", "dr_tf", "--help"]) < 0.3 for _ in range(3)))

    def test_help_is_fast(self):
        rooms = [["-m", f"dr_tf.{path.parent.name}"] for path in ROOT.glob("dr_tf/*/__main__.py")]
        modules = [["-m", name] for name in ("tfrecords_builder", "dr_tf.predict", "dr_tf.ensemble")]
        subcommands = [["-m", "dr_tf", name] for name in COMMANDS]
        for command in (["train.py"], ["evaluate.py"], *modules, *rooms, *subcommands):
            with self.subTest(command=command):
                self.assertTrue(any(_cpu_seconds([*command, "--help"]) < 1 for _ in range(3)))


def _cpu_seconds(command):
    """Return the processor time of a command: on a busy machine its wall-clock time says nothing about the command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    unittest.main()
