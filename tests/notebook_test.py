"""The notebook of the documentation runs from its first cell to its last."""

import importlib.util
import pathlib
import re
import tempfile
import unittest

import pytest

NOTEBOOK = pathlib.Path(__file__).resolve().parents[1] / "docs/notebooks/from_photographs_to_a_report.ipynb"
INSTALLED = all(importlib.util.find_spec(name) for name in ("nbclient", "nbformat", "ipykernel"))


@pytest.mark.slow
@unittest.skipUnless(INSTALLED, "nbclient or ipykernel is not installed: pip install 'dr_tf[docs]'")
class NotebookTest(unittest.TestCase):
    def test_it_runs_on_few_patients_for_one_epoch(self):
        import nbclient
        import nbformat

        notebook = nbformat.read(NOTEBOOK, as_version=4)
        setting = next(cell for cell in notebook.cells if "PATIENTS, EPOCHS =" in cell.source)
        setting.source = re.sub(r"PATIENTS, EPOCHS = .*", "PATIENTS, EPOCHS = 60, 1", setting.source)
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
            outputs = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
            self.assertRegex(outputs, r"auroc +\d\.\d{3} \(")
            self.assertTrue(list(pathlib.Path(folder).rglob("report.html")))


if __name__ == "__main__":
    unittest.main()
