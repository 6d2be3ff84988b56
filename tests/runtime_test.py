"""What a command changes in its process when it starts TensorFlow, and that importing dr_tf changes nothing."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from dr_tf import runtime
from dr_tf.runtime import ONEDNN, starting_tensorflow, use_onednn

ROOT = pathlib.Path(__file__).resolve().parent.parent
CPUINFO = "processor\t: 0\nmodel name\t: X\nflags\t\t: fpu avx{} bmi1\n"


class OnednnTest(unittest.TestCase):
    def setUp(self):
        self.enterContext(mock.patch.dict(os.environ))
        self.enterContext(mock.patch.dict(sys.modules))
        os.environ.pop(ONEDNN, None)
        sys.modules.pop("tensorflow", None)

    def _setting(self, cpuinfo):
        """Return the environment variable on a machine with this /proc/cpuinfo; None is a machine without the file."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "cpuinfo"
            if cpuinfo is not None:
                path.write_text(cpuinfo)
            with mock.patch.object(runtime, "_CPUINFO", path):
                use_onednn()
        return os.environ.get(ONEDNN)

    def test_on_with_avx2(self):
        self.assertEqual(self._setting(CPUINFO.format(" avx2")), "1")

    def test_tensorflow_chooses_on_other_processors(self):
        for cpuinfo in (CPUINFO.format(""), CPUINFO.format(" xavx2x"), "Features\t: asimd avx2\n", None):
            self.assertIsNone(self._setting(cpuinfo))

    def test_the_users_own_setting_stays(self):
        for setting in ("0", "1"):
            os.environ[ONEDNN] = setting
            self.assertEqual(self._setting(CPUINFO.format(" avx2")), setting)

    def test_nothing_changes_after_tensorflow_was_imported(self):
        sys.modules["tensorflow"] = mock.Mock()
        self.assertIsNone(self._setting(CPUINFO.format(" avx2")))

    def test_around_the_first_import(self):
        with mock.patch.object(runtime, "_has_avx2", lambda: True), starting_tensorflow():
            self.assertEqual(os.environ[ONEDNN], "1")


class StartingTest(unittest.TestCase):
    def setUp(self):
        self.enterContext(mock.patch.dict(os.environ))

    def test_startup_messages_are_hidden_unless_the_import_fails(self):
        code = (
            "import os\nfrom dr_tf.runtime import starting_tensorflow\n"
            "with starting_tensorflow(): os.write(2, b'hello from C')\n"
            "with starting_tensorflow():\n os.write(2, b'a library is missing')\n raise ImportError"
        )
        process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        self.assertNotIn("hello", process.stderr)
        self.assertIn("a library is missing", process.stderr)

    def test_hidden_packages_can_be_imported_again_afterwards(self):
        self.enterContext(mock.patch.dict(sys.modules))
        sys.modules.pop("wave", None)  # another test may have imported it
        with contextlib.suppress(ImportError), starting_tensorflow(without=("wave",)):
            import wave
        self.assertNotIn("wave", sys.modules)
        import wave

        self.assertTrue(wave.open)

    def test_importing_dr_tf_does_not_change_the_environment(self):
        code = (
            "import os\n"
            "import dr_tf, dr_tf.console, dr_tf.runtime, dr_tf.cli.predict, dr_tf.cli.explain, dr_tf.fundus.prepare\n"
            "print([name for name in os.environ if name.startswith('TF_')])"
        )
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        process = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True
        )
        self.assertEqual(process.stdout, "[]\n")


if __name__ == "__main__":
    unittest.main()
