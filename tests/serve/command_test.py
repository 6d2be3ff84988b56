"""The command `dr_tf serve`: its flags, its errors in one line, and how signals end it."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from dr_tf.cli import serve
from tests import commands
from tests.serve import services


class ErrorsTest(unittest.TestCase):
    def assert_error(self, text, *flags):
        status, output, errors = commands.run(serve.main, *flags)
        self.assertEqual((status, output), (2, ""))
        self.assertRegex(errors.strip().splitlines()[-1], text)
        self.assertNotIn("Traceback", errors)

    def test_wrong_flags(self):
        self.assert_error("--port is a number from 0 to 65535, not 70000", "--port", 70000)
        for name in ("batch_size", "queue", "timeout", "max_megabytes", "max_total_megabytes"):
            self.assert_error(f"--{name} must be above 0", f"--{name}", 0)

    def test_wrong_models_points_and_addresses(self):
        with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
            self.assert_error("^error: .* is no finished run", "--model", folder)
            self.assert_error("^error: unknown operating point 'best'", "--point", "best")
            self.assert_error("^error: .*between 0 and 1", "--prevalence", 3)
            self.assert_error("^error: the mode 'tta8' was not fitted", "--mode", "tta8")
            port = taken.getsockname()[1]
            self.assert_error(f"^error: 127.0.0.1:{port} cannot be used: Address already in use", "--port", port)
        self.assert_error("^error: 203.0.113.1:0 cannot be used", "--address", "203.0.113.1", "--port", 0)

    def test_a_missing_extra(self):
        code = "import sys\nsys.modules['fastapi'] = None\nfrom dr_tf.console import exit_on_user_error\n"
        code += "with exit_on_user_error():\n    import dr_tf.serve.application\n"
        ended = subprocess.run([sys.executable, "-c", code], cwd=services.ROOT, capture_output=True, text=True)
        line = "error: this needs fastapi, which is not installed: pip install 'dr_tf[serve]'\n"
        self.assertEqual((ended.returncode, ended.stderr), (2, line))


class SignalTest(unittest.TestCase):
    def test_sigterm_waits_for_what_is_in_flight_and_nothing_is_printed_of_it(self):
        command = [sys.executable, "-m", "dr_tf", "serve", "--port", "0"]
        with tempfile.TemporaryFile("w+") as errors:
            with subprocess.Popen(command, cwd=services.ROOT, stdout=errors, stderr=errors) as process:
                port = _port(errors, process)
                connection, body = _half_a_request(port)
                process.send_signal(signal.SIGTERM)
                time.sleep(0.5)
                with self.assertRaises(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                connection.sendall(body)
                answer = connection.makefile("rb").read()
                self.assertEqual(process.wait(30), 143)
            errors.seek(0)
            printed = errors.read()
        self.assertIn(b"200 OK", answer)
        self.assertIn(
            json.loads(answer.rpartition(b"\r\n\r\n")[2])["decisions"][0]["action"], ("refer", "clear", "retake")
        )
        self.assertNotIn("secret", printed)
        self.assertEqual(printed.splitlines()[-1], "stopped")
        self.assertEqual(len(printed.splitlines()), 3, printed)


def _port(errors, process):
    while process.poll() is None:
        text = os.pread(errors.fileno(), 10000, 0).decode()
        if "serves on" in text:
            return int(text.rpartition("serves on http://127.0.0.1:")[2].partition(";")[0])
        time.sleep(0.05)
    raise AssertionError("the service ended")


def _half_a_request(port):
    """Send the head and half of the body; return the connection and the other half."""
    body = services.http_clients.form_of("secret.jpg", services.photographs()["0_left.jpg"])
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = f"POST /v1/decide HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    connection.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=----dr_tf\r\n\r\n" + body[:2000])
    time.sleep(0.3)
    return connection, body[2000:]


if __name__ == "__main__":
    unittest.main()
