import contextlib
import io
import subprocess
import sys
import unittest

from dr_tf.console import MISTAKE, STOPPED, Ended, UserError, mistakes_in_one_line, need


def _ended(error, **options):
    """(the Ended that comes of an error, what was said on stderr)."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), mistakes_in_one_line(**options):
            raise error
    except Ended as end:
        return end, said.getvalue()


class MistakesTest(unittest.TestCase):
    def test_a_mistake_is_one_line_and_a_status_of_its_own(self):
        end, said = _ended(UserError("no file x\n  in call to configurable"))
        self.assertEqual((str(end), end.code, said), ("error: no file x", MISTAKE, "error: no file x\n"))

    def test_the_whole_where_a_command_wants_it(self):
        self.assertEqual(
            _ended(UserError("no folder\nexpected:\nTREE"), told=str)[1], "error: no folder\nexpected:\nTREE\n"
        )

    def test_the_interrupt_key(self):
        end, said = _ended(KeyboardInterrupt(), stopped="stopped; nothing is left")
        self.assertEqual((end.code, said), (STOPPED, "stopped; nothing is left\n"))

    def test_what_an_extra_brings_is_named_with_it(self):
        end, _ = _ended(ModuleNotFoundError("No module", name="keras.ops"))
        self.assertEqual(end.code, MISTAKE)
        self.assertIn("needs keras.ops, which is not installed: pip install 'dr_tf[train]'", str(end))

    def test_mistakes_of_ours_are_not_hidden(self):
        for error in (ModuleNotFoundError("No module", name="dr_tf.nothing"), ZeroDivisionError()):
            with self.assertRaises(type(error)):
                _ended(error)

    def test_the_process_ends_so(self):
        code = (
            "from dr_tf.console import UserError, mistakes_in_one_line\n"
            "with mistakes_in_one_line(): raise UserError('no file x')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (MISTAKE, "error: no file x\n"))

    def test_need(self):
        need("numpy", "cv2")
        with self.assertRaisesRegex(ModuleNotFoundError, "nothing_of_the_sort"):
            need("numpy", "nothing_of_the_sort")


if __name__ == "__main__":
    unittest.main()
