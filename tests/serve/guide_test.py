"""The examples of docs/guides/serve.md run, and its tables are true."""

import contextlib
import io
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from tests.fundus import dicom_files
from tests.serve import services
from tests.serve.http_test import DicomTest

GUIDE = (services.ROOT / "docs/guides/serve.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8000"


class GuideTest(unittest.TestCase):
    def setUp(self):
        self.client = self.enterContext(services.serving())
        self.enterContext(contextlib.chdir(self.enterContext(tempfile.TemporaryDirectory())))
        for eye in ("left", "right"):
            pathlib.Path(f"12_{eye}.jpg").write_bytes(services.photographs()[f"0_{eye}.jpg"])

    def example(self, language):
        """The block of a language, with the address of the service of this test."""
        (block,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
        return block.replace(URL, str(self.client.base_url).rstrip("/"))

    def test_the_python_example(self):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(self.example("python"), {})
        self.assertRegex(printed.getvalue(), r"^12_left.jpg \w+ 0\.\d+ .*\n12_right.jpg .*\n(refer|clear|retake)\n$")

    @unittest.skipUnless(shutil.which("curl"), "curl is not installed")
    @dicom_files.needs_pydicom
    def test_the_curl_examples(self):
        pathlib.Path("study.dcm").write_bytes(DicomTest.two_eyes(self))
        for command, decisions in zip(self.example("sh").splitlines(), (1, 2, 2), strict=True):
            with self.subTest(command):
                answered = subprocess.run([*command.split(), "--silent"], capture_output=True, check=True)
                self.assertEqual(len(json.loads(answered.stdout)["decisions"]), decisions)

    def test_all_fields_and_metrics_are_in_it(self):
        schema = self.client.get("/openapi.json").json()
        operation = schema["paths"]["/v1/decide"]["post"]
        fields = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
        metrics = re.findall(r"# TYPE (\w+) (?:counter|histogram|gauge)", self.client.get("/metrics").text)
        for name in (*fields, *operation["responses"], *(one for one in metrics if not one.endswith("_created"))):
            self.assertIn(name, GUIDE)


if __name__ == "__main__":
    unittest.main()
