"""Label tables in Excel files."""

import datetime
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

import openpyxl

from dr_tf.console import UserError
from tests.tfrecords_builder import published_trees
from tfrecords_builder.tables import read_numbered_rows, read_table


class ExcelTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "table.xlsx"

    def write(self, *rows):
        published_trees.write_excel(self.path, rows)

    def test_cells_are_the_text_that_a_csv_file_would_hold(self):
        self.write(("name", " Grade "), (" a ", 2), ("b", 2.0), ("c", None), ("d", "3"), ("e", 2.5), (7, True))
        rows = read_table(self.path, required=("Name", "grade"))
        self.assertEqual([row["grade"] for row in rows], ["2", "2", "", "3", "2.5", "True"])
        self.assertEqual([row["Name"] for row in rows], ["a", "b", "c", "d", "e", "7"])

    def test_empty_rows_and_columns_and_the_numbers_that_a_spreadsheet_shows(self):
        self.write(
            (None, None), ("name", None, "day"), (), ("a", None, datetime.date(2018, 7, 10)), (None, None), ("b",)
        )
        rows = read_numbered_rows(self.path, required=("name", "day"))
        self.assertEqual([(number, row["name"]) for number, row in rows], [(4, "a"), (6, "b")])
        self.assertIn("2018-07-10", rows[0][1]["day"])

    def test_only_the_first_sheet_is_read(self):
        book = openpyxl.Workbook()
        book.active.append(["name"])
        book.active.append(["a"])
        book.create_sheet("other", 1).append(["b"])
        book.active = 1
        book.save(self.path)
        self.assertEqual(read_table(self.path), [{"name": "a"}])

    def test_unusable_ones(self):
        self.write(("name",))
        with self.assertRaisesRegex(UserError, "has a header but no rows"):
            read_table(self.path)
        self.write(("name", "name"), (1, 2))
        with self.assertRaisesRegex(UserError, "names a column twice"):
            read_table(self.path)
        self.write()
        with self.assertRaisesRegex(UserError, "is empty"):
            read_table(self.path)
        self.path.write_bytes(b"name\na\n")
        with self.assertRaisesRegex(UserError, "cannot be read as an Excel file"):
            read_table(self.path)
        self.path.unlink()
        with self.assertRaisesRegex(UserError, "there is no file"):
            read_table(self.path)

    def test_without_openpyxl(self):
        self.write(("name",), ("a",))
        with mock.patch.dict(sys.modules, {"openpyxl": None}), self.assertRaises(UserError) as caught:
            read_table(self.path)
        self.assertEqual(str(caught.exception), f"{self.path} is an Excel file; to read it: pip install 'dr_tf[excel]'")


if __name__ == "__main__":
    unittest.main()
