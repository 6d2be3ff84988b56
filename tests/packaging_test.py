"""setup.py declares every package that the code imports, and error messages name the extra that installs it."""

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
    """Return a literal of setup.py."""
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(name)


def _distribution(requirement):
    """Return the name in a requirement: `opencv-python-headless>=4.11` -> `opencv-python-headless`."""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


BASE = {_distribution(requirement) for requirement in _setup("BASE")}
EXTRAS = {
    extra: {_distribution(requirement) for requirement in requirements}
    for extra, requirements in _setup("EXTRAS").items()
}


def _imported():
    """Return {imported name: a file that imports it} of all third-party packages."""
    imported = {}
    for path in [*(p for package in PACKAGES for p in ROOT.glob(f"{package}/**/*.py")), *ROOT.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0]: path.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported[node.module.split(".")[0]] = path.name
    return {name: path for name, path in imported.items() if name not in sys.stdlib_module_names | OWN | {"setuptools"}}


DISTRIBUTIONS = importlib.metadata.packages_distributions()


def _distributions(name):
    """Return the distributions that may install an importable name; of a package that is not installed its own name."""
    return {_distribution(d) for d in DISTRIBUTIONS.get(name, [name])}


class PackagingTest(unittest.TestCase):
    def test_imported_packages_are_declared(self):
        declared = BASE.union(*(names for extra, names in EXTRAS.items() if extra != "test"))
        for name, path in _imported().items():
            self.assertTrue(_distributions(name) & declared, f"{path} imports {name}, which setup.py does not declare")

    def test_every_package_beyond_the_base_has_an_extra(self):
        for name in _imported():
            if not _distributions(name) & BASE:
                self.assertIn(name, EXTRA_OF)
        for name, extra in EXTRA_OF.items():
            self.assertTrue(_distributions(name) & EXTRAS[extra], f"the extra {extra} does not install {name}")

    def test_every_requirement_is_pinned_in_the_constraints(self):
        lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        pinned = {_distribution(line) for line in lines if not line.startswith("#")}
        self.assertLessEqual(BASE.union(*EXTRAS.values()), pinned)


if __name__ == "__main__":
    unittest.main()
