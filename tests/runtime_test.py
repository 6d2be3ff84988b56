"""What a command does to its process, and nobody else."""

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
FLAGS = "processor\t: 0\nmodel name\t: X\nflags\t\t: fpu avx{} bmi1\n"


class OnednnTest(unittest.TestCase):
    def setUp(self):
        self.enterContext(mock.patch.dict(os.environ))
        self.enterContext(mock.patch.dict(sys.modules))
        os.environ.pop(ONEDNN, None)
        sys.modules.pop("tensorflow", None)

    def _after(self, cpuinfo):
        """The variable, on a machine whose processor tells this; None: it tells nothing."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "cpuinfo"
            if cpuinfo is not None:
                path.write_text(cpuinfo)
            with mock.patch.object(runtime, "_CPUINFO", path):
                use_onednn()
        return os.environ.get(ONEDNN)

    def test_it_is_on_where_it_pays(self):
        self.assertEqual(self._after(FLAGS.format(" avx2")), "1")

    def test_elsewhere_tensorflow_chooses(self):
        for cpuinfo in (FLAGS.format(""), FLAGS.format(" xavx2x"), "Features\t: asimd avx2\n", None):
            self.assertIsNone(self._after(cpuinfo))

    def test_the_users_own_choice_stays(self):
        for chosen in ("0", "1"):
            os.environ[ONEDNN] = chosen
            self.assertEqual(self._after(FLAGS.format(" avx2")), chosen)

    def test_once_tensorflow_is_there_nothing_is_changed(self):
        sys.modules["tensorflow"] = mock.Mock()
        self.assertIsNone(self._after(FLAGS.format(" avx2")))

    def test_around_the_first_import(self):
        with mock.patch.object(runtime, "_has_avx2", lambda: True), starting_tensorflow():
            self.assertEqual(os.environ[ONEDNN], "1")


class StartingTest(unittest.TestCase):
    def setUp(self):
        self.enterContext(mock.patch.dict(os.environ))

    def test_greetings_are_held_back_unless_it_fails(self):
        code = (
            "import os\nfrom dr_tf.runtime import starting_tensorflow\n"
            "with starting_tensorflow(): os.write(2, b'hello from C')\n"
            "with starting_tensorflow():\n os.write(2, b'a library is missing')\n raise ImportError"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        self.assertNotIn("hello", done.stderr)
        self.assertIn("a library is missing", done.stderr)

    def test_hidden_packages_are_there_again(self):
        self.enterContext(mock.patch.dict(sys.modules))
        sys.modules.pop("wave", None)  # another test may have brought it in
        with contextlib.suppress(ImportError), starting_tensorflow(without=("wave",)):
            import wave
        self.assertNotIn("wave", sys.modules)
        import wave

        self.assertTrue(wave.open)

    def test_importing_dr_tf_changes_nothing(self):
        code = (
            "import os\n"
            "import dr_tf, dr_tf.console, dr_tf.runtime, dr_tf.predict, dr_tf.explain.__main__, dr_tf.fundus.prepare\n"
            "print([name for name in os.environ if name.startswith('TF_')])"
        )
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout, "[]\n")


if __name__ == "__main__":
    unittest.main()
