"""setup.py declares every package that the code imports, and error messages name the extra that installs it."""

import ast
import importlib.metadata
import importlib.util
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


def _lines(name):
    """Return the lines of a file that are no comments."""
    return [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


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
        pinned = {_distribution(line) for line in _lines("constraints.txt")}
        self.assertLessEqual(BASE.union(*EXTRAS.values()), pinned)

    def test_what_the_tests_install_has_the_versions_of_the_constraints_and_hashes(self):
        pinned = dict(line.split("==") for line in _lines("constraints.txt") if "==" in line)
        locked = re.split(r"\n(?=\S)", "\n".join(_lines("requirements.txt")))
        for package in locked:
            name, version = re.match(r"(\S+)==(\S+)", package).groups()
            self.assertEqual(pinned.get(name, version), version, name)  # others are of other systems
            self.assertIn(" --hash=sha256:", package, name)
        names = {re.match(r"[^=\s]+", package)[0] for package in locked}
        self.assertLessEqual(BASE | EXTRAS["train"] | EXTRAS["test"] | {"setuptools"}, names)


class LicencesTest(unittest.TestCase):
    def setUp(self):
        spec = importlib.util.spec_from_file_location("licences", ROOT / "docs" / "licences.py")
        self.licences = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.licences)

    def test_no_package_asks_for_the_source_of_what_uses_it(self):
        for name, _, licence, _ in self.licences.rows():
            self.assertNotIn("GPL", licence, name)

    @unittest.skipUnless(sys.version_info[:2] == (3, 11), "other versions of Python need other packages")
    def test_the_list_is_up_to_date(self):
        page = self.licences.PAGE.read_text(encoding="utf-8")
        self.assertEqual(page, self.licences.page(), "make it anew: .venv/bin/python docs/licences.py")


if __name__ == "__main__":
    unittest.main()
