"""Commands end with one line and an exit status of its own for a user's mistake, a missing package and Ctrl-C."""

import contextlib
import io
import subprocess
import sys
import unittest

from dr_tf.console import (
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    CommandExit,
    UserError,
    exit_on_user_error,
    require_packages,
)


def _exit_of(error, **options):
    """Raise an error inside a command; return (the CommandExit, what was printed to standard error)."""
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr), exit_on_user_error(**options):
            raise error
    except CommandExit as end:
        return end, stderr.getvalue()


class ExitTest(unittest.TestCase):
    def test_a_user_error_is_one_line_with_its_own_exit_status(self):
        end, stderr = _exit_of(UserError("no file x\n  in call to configurable"))
        self.assertEqual((str(end), end.code, stderr), ("error: no file x", EXIT_USER_ERROR, "error: no file x\n"))

    def test_the_whole_message_if_a_command_asks_for_it(self):
        _, stderr = _exit_of(UserError("no folder\nexpected:\nTREE"), format_error=str)
        self.assertEqual(stderr, "error: no folder\nexpected:\nTREE\n")

    def test_ctrl_c(self):
        end, stderr = _exit_of(KeyboardInterrupt(), interrupted="stopped; nothing is left")
        self.assertEqual((end.code, stderr), (EXIT_INTERRUPTED, "stopped; nothing is left\n"))

    def test_a_missing_package_is_reported_with_the_extra_that_installs_it(self):
        end, _ = _exit_of(ModuleNotFoundError("No module", name="keras.ops"))
        self.assertEqual(end.code, EXIT_USER_ERROR)
        self.assertIn("needs keras.ops, which is not installed: pip install 'dr_tf[train]'", str(end))

    def test_a_full_disk_in_the_words_of_a_library(self):
        end, _ = _exit_of(RuntimeError("/runs/a/events.2; No space left on device\n  Failed to flush"))
        self.assertEqual(str(end), "error: no space left on device; run the command again when there is room")
        self.assertEqual(end.code, EXIT_USER_ERROR)

    def test_programming_errors_are_not_hidden(self):
        for error in (ModuleNotFoundError("No module", name="dr_tf.nothing"), ZeroDivisionError()):
            with self.assertRaises(type(error)):
                _exit_of(error)

    def test_the_exit_status_of_the_process(self):
        code = (
            "from dr_tf.console import UserError, exit_on_user_error\n"
            "with exit_on_user_error(): raise UserError('no file x')"
        )
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertEqual((process.returncode, process.stderr), (EXIT_USER_ERROR, "error: no file x\n"))


class RequirePackagesTest(unittest.TestCase):
    def test_installed_and_missing_packages(self):
        require_packages("numpy", "cv2")
        with self.assertRaisesRegex(ModuleNotFoundError, "nothing_of_the_sort"):
            require_packages("numpy", "nothing_of_the_sort")


if __name__ == "__main__":
    unittest.main()
