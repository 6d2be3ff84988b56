"""The built wheel works in a virtual environment of its own: commands, shipped configs, ready model, types."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest
import venv
import zipfile

import pytest

import dr_tf
from tests.fundus.synthetic_images import draw_fundus, jpeg

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ("dr_tf", "tfrecords_builder", "configs", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE",
           "CHANGELOG.md", "CITATION.cff", "Containerfile", "compose.yaml", "Makefile", "apt.txt", "constraints.txt", "requirements.txt", "train.py", "evaluate.py")  # fmt: skip


def _copy_sources(folder):
    """Copy what is built, so that nothing is written into the checkout."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)


@pytest.mark.slow
class WheelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "checkout").mkdir()
        _copy_sources(cls.folder / "checkout")
        build = [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            "--outdir",
            cls.folder / "dist",
            cls.folder / "checkout",
        ]
        subprocess.run(build, check=True, capture_output=True)
        [cls.wheel] = (cls.folder / "dist").glob("*.whl")
        cls._install()
        cls.elsewhere = cls.folder / "elsewhere"
        cls.elsewhere.mkdir()

    @classmethod
    def _install(cls):
        """Install the wheel alone; its dependencies are those of this environment, through a .pth file."""
        venv.create(cls.folder / "venv", with_pip=True)
        cls.bin = cls.folder / "venv" / "bin"
        install = [cls.bin / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", cls.wheel]
        subprocess.run(install, check=True, capture_output=True)
        [site_packages] = (cls.folder / "venv" / "lib").glob("python*/site-packages")
        (site_packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def _run(self, *command):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(self.bin / command[0]), *map(str, command[1:])]
        return subprocess.run(command, cwd=self.elsewhere, env=environment, capture_output=True, text=True)

    def test_the_environment_uses_the_wheel(self):
        process = self._run("python", "-c", "import dr_tf, tfrecords_builder as b; print(dr_tf.__file__, b.__file__)")
        for path in process.stdout.split():
            self.assertTrue(path.startswith(str(self.folder)), path)

    def test_contents(self):
        names = set(zipfile.ZipFile(self.wheel).namelist())
        for path in (
            "py.typed",
            "ready/model.keras",
            "ready/measured.txt",
            "ready/onnx/model.onnx",
            "ready/onnx/export.json",
            "configs/base.gin",
            "configs/grids/quickstart.gin",
        ):
            self.assertIn(f"dr_tf/{path}", names)
        for path in (ROOT / "dr_tf" / "templates").iterdir():
            self.assertIn(f"dr_tf/templates/{path.name}", names)
        self.assertEqual([name for name in names if name.startswith("tests")], [])

    def test_links_of_the_description_are_absolute(self):
        with zipfile.ZipFile(self.wheel) as wheel:
            [metadata] = (name for name in wheel.namelist() if name.endswith("METADATA"))
            text = wheel.read(metadata).decode()
        links = re.findall(r"\]\(([^)\s]+)\)", text)
        self.assertTrue(links)
        self.assertEqual([link for link in links if not link.startswith(("https://", "http://", "#"))], [])

    def test_predict(self):
        (self.elsewhere / "eye.jpg").write_bytes(jpeg(draw_fundus(size=(400, 300), radius=140)))
        process = self._run("dr_tf", "predict", "--format", "csv", "eye.jpg")
        self.assertIn(process.returncode, (0, 1), process.stderr)
        self.assertIn("\neye.jpg,", process.stdout)

    def test_shipped_configs_are_found(self):
        arguments = ("--records", "none", "--run_dir", "run", "--gin_file")
        process = self._run("dr_tf", "train", *arguments, "quickstart")
        self.assertEqual(process.returncode, 2, process.stderr)
        self.assertTrue(process.stderr.endswith("error: there is no folder of records none\n"), process.stderr)
        process = self._run("dr_tf", "train", *arguments, "idrid_trnsfer")
        self.assertRegex(process.stderr, "no config 'idrid_trnsfer'.* did you mean idrid_transfer")

    def test_version(self):
        self.assertEqual(self._run("dr_tf", "--version").stdout, f"dr_tf {dr_tf.__version__}\n")


if __name__ == "__main__":
    unittest.main()
