"""What the code imports is what setup.py declares, and a person is told the extra that brings it."""

import ast
import importlib.metadata
import pathlib
import re
import sys
import unittest

from dr_tf.console import EXTRA_OF

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("dr_tf", "tfrecords_builder")
OWN = {*PACKAGES, "train", "evaluate"}


def _setup(name):
    """A literal of setup.py."""
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(name)


def _named(requirement):
    """`opencv-python-headless>=4.11` -> `opencv-python-headless`."""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


BASE = {_named(requirement) for requirement in _setup("BASE")}
EXTRAS = {extra: {_named(requirement) for requirement in needed} for extra, needed in _setup("EXTRAS").items()}


def _imported():
    """{name that is imported: a file that does}, of what is not the standard library's and not ours."""
    found = {}
    for path in [*(p for package in PACKAGES for p in ROOT.glob(f"{package}/**/*.py")), *ROOT.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0]: path.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found[node.module.split(".")[0]] = path.name
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | OWN | {"setuptools"}}


def _distributions(name):
    """What may bring it. Of what is not installed, what is called alike."""
    found = importlib.metadata.packages_distributions().get(name, [name])
    return {_named(distribution) for distribution in found}


class PackagingTest(unittest.TestCase):
    def test_what_is_imported_is_declared(self):
        declared = BASE.union(*(needed for extra, needed in EXTRAS.items() if extra != "test"))
        for name, path in _imported().items():
            self.assertTrue(_distributions(name) & declared, f"{path} imports {name}, which setup.py does not name")

    def test_what_a_base_install_lacks_is_told_with_its_extra(self):
        for name in _imported():
            if not _distributions(name) & BASE:
                self.assertIn(name, EXTRA_OF)
        for name, extra in EXTRA_OF.items():
            self.assertTrue(_distributions(name) & EXTRAS[extra], f"the extra {extra} does not bring {name}")

    def test_every_requirement_has_its_version_in_the_constraints(self):
        lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        pinned = {_named(line) for line in lines if not line.startswith("#")}
        self.assertLessEqual(BASE.union(*EXTRAS.values()), pinned)


if __name__ == "__main__":
    unittest.main()
