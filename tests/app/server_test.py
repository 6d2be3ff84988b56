"""The command: its flags and errors, the settings of its server, and the files of its container."""

import pathlib
import re
import socket
import subprocess
import sys
import unittest
from unittest import mock

from dr_tf.app.limits import Limits
from dr_tf.app.server import server_options
from dr_tf.cli import app
from dr_tf.inference.ready import READY
from tests import commands

ROOT = pathlib.Path(__file__).resolve().parents[2]


class FlagsTest(unittest.TestCase):
    def test_the_page_is_for_this_machine_unless_told(self):
        flags = app.parse([])
        self.assertEqual((flags.address, flags.port, flags.run_dir), ("127.0.0.1", 8501, READY))

    def test_wrong_values_are_refused(self):
        for wrong in (["--prevalence", "0"], ["--max_files", "0"], ["--port", "99999"], ["--max_file_mb", "0"]):
            with self.subTest(wrong), self.assertRaises(SystemExit), mock.patch("sys.stderr"):
                app.parse(wrong)

    def test_a_missing_extra_is_named_in_one_line(self):
        with mock.patch("importlib.util.find_spec", return_value=None):
            status, _, errors = commands.run(app.main)
        line = "error: this needs streamlit, which is not installed: pip install 'dr_tf[app]'"
        self.assertEqual((status, errors.strip()), (2, line))

    def test_a_port_in_use_and_an_absent_model_are_named_in_one_line(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            status, _, errors = commands.run(app.main, "--port", port)
        self.assertEqual((status, errors.count("\n")), (2, 1))
        self.assertIn(f"port {port} cannot be used", errors)
        status, _, errors = commands.run(app.main, "--model", "absent", "--port", port)
        self.assertEqual((status, errors.count("\n")), (2, 1))
        self.assertIn("absent is no finished run", errors)


class OptionsTest(unittest.TestCase):
    def test_the_server_is_private(self):
        options = server_options("127.0.0.1", 8501, Limits(file_mb=7))
        self.assertEqual(options["server_address"], "127.0.0.1")
        self.assertEqual(options["server_maxUploadSize"], 7)
        self.assertIn("127.0.0.1", options["server_allowedHosts"])
        self.assertEqual(server_options("0.0.0.0", 8501, Limits())["server_allowedHosts"], [])
        self.assertTrue(options["server_enableXsrfProtection"] and options["server_enableCORS"])
        self.assertFalse(options["browser_gatherUsageStats"] or options["server_enableStaticServing"])
        self.assertEqual(options["client_showErrorDetails"], "none")

    def test_streamlit_knows_every_option(self):
        from streamlit import config

        for name in server_options("127.0.0.1", 8501, Limits()):
            self.assertIn(name.replace("_", ".", 1), config._config_options_template)

    def test_the_page_starts_without_tensorflow(self):
        code = (
            "import sys\nfrom dr_tf.app.engine import open_engine\nfrom dr_tf.app.settings import current_settings\n"
            "import dr_tf.app.page, dr_tf.app.server\nopen_engine(current_settings().run_dir)\n"
            "print(sorted({'tensorflow', 'keras', 'sklearn', 'matplotlib'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.strip(), "[]")


class ContainerTest(unittest.TestCase):
    containerfile = (ROOT / "Containerfile").read_text(encoding="utf-8")

    def test_the_container_has_no_root_a_health_check_and_known_flags(self):
        self.assertRegex(self.containerfile, r"(?m)^USER 10001:10001$")
        self.assertIn("/_stcore/health", self.containerfile)
        command = re.search(r"ENTRYPOINT \[(.+)\]", self.containerfile)[1].replace('"', "").split(", ")
        self.assertEqual(command[:2], ["dr_tf", "app"])
        self.assertEqual(app.parse(command[2:]).address, "0.0.0.0")

    def test_the_extras_of_the_container_exist(self):
        setup = (ROOT / "setup.py").read_text(encoding="utf-8")
        for extra in re.search(r"\[([\w,]+)\]'", self.containerfile)[1].split(","):
            self.assertIn(f'    "{extra}": [', setup)

    def test_compose_runs_it_read_only_behind_a_proxy(self):
        import yaml

        services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
        page = services["app"]
        self.assertTrue(page["read_only"])
        self.assertNotIn("ports", page)
        self.assertEqual(page["cap_drop"], ["ALL"])
        self.assertTrue((ROOT / page["build"]["dockerfile"]).exists())
        self.assertEqual(app.parse(page["command"]).prevalence, 0.1)
        self.assertEqual(services["proxy"]["ports"], ["443:443"])


if __name__ == "__main__":
    unittest.main()
