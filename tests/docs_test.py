"""The documentation builds without a network, and the commands in it exist."""

import functools
import importlib.util
import itertools
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^(?:\S*/)?(?:python (?P<script>train|evaluate)\.py|dr_tf (?P<command>\w+))(?P<rest>.*)$")


def commands():
    """Yield (page, command, its arguments) for every command line in a fenced block."""
    for page in PAGES:
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if match := COMMAND.match(line.split("  #")[0].strip()):
                    yield page.relative_to(ROOT).as_posix(), match["script"] or match["command"], match["rest"].split()


@functools.cache
def help_of(*command):
    arguments = [sys.executable, "-m", "dr_tf", *command, "--help"]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True).stdout


class CommandsTest(unittest.TestCase):
    def test_every_flag_in_the_documentation_exists(self):
        found = list(commands())
        self.assertGreater(len(found), 20)
        for page, command, arguments in found:
            layout = [arguments[0]] if command == "records" and arguments and arguments[0].isidentifier() else []
            known = set(re.findall(r"--\w+", help_of(command, *layout)))
            for flag in [argument.split("=")[0] for argument in arguments if argument.startswith("--")]:
                with self.subTest(page=page, command=command, flag=flag):
                    self.assertTrue(flag == "--help" or flag in known)

    def test_every_config_in_the_documentation_exists(self):
        shipped = {path.stem for path in (ROOT / "configs").rglob("*.gin")}
        for page, command, arguments in commands():
            for flag, name in itertools.pairwise(arguments):
                if flag == "--gin_file" and "." not in name and "…" not in name:
                    with self.subTest(page=page, command=command):
                        self.assertIn(name, shipped)


class LinksTest(unittest.TestCase):
    def test_every_relative_link_leads_to_a_file(self):
        for page in PAGES:
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
                if "://" not in target:
                    with self.subTest(page=page.name, target=target):
                        self.assertTrue((page.parent / target).exists())


@unittest.skipUnless(importlib.util.find_spec("mkdocs"), "mkdocs is not installed: pip install 'dr_tf[docs]'")
class SiteTest(unittest.TestCase):
    @pytest.mark.slow
    def test_the_site_builds_and_documents_every_parameter(self):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
            built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            self.assertEqual(built.returncode, 0, built.stderr[-3000:])
            configuration = (pathlib.Path(folder) / "configuration.html").read_text(encoding="utf-8")
            for parameter in ("epochs", "learning_rate", "trainable_from"):
                self.assertIn(f"<code>{parameter}</code>", configuration)
            fetched = re.compile(r"""<(?:link|script|img)[^>]+(?:href|src)=["']?(?:https?:)?//""")
            for page in pathlib.Path(folder).rglob("*.html"):
                self.assertNotRegex(page.read_text(encoding="utf-8").replace('rel="canonical"', ""), fetched, page.name)


if __name__ == "__main__":
    unittest.main()
