"""Label tables: separators, encodings, required columns, and unusable files."""

import pathlib
import tempfile
import unittest

from dr_tf.console import UserError
from tfrecords_builder.tables import parse_whole_number, read_numbered_rows, read_table

ROWS = [{"name": "a", "grade": "0"}, {"name": "b", "grade": "4"}]


class TableTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "labels.csv"

    def read(self, data, required=("name", "grade")):
        self.path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return read_table(self.path, required=required)

    def refusal(self, data, required=("name", "grade")):
        with self.assertRaises(UserError) as caught:
            self.read(data, required)
        self.assertIn(str(self.path), str(caught.exception), "the file is named")
        return str(caught.exception)

    def test_tables_as_people_save_them(self):
        plain = "name,grade\na,0\nb,4\n"
        for kind, data in {
            "plain": plain,
            "no newline at the end": plain.rstrip(),
            "byte-order mark": b"\xef\xbb\xbf" + plain.encode(),
            "CRLF": plain.replace("\n", "\r\n"),
            "old Mac line ends": plain.replace("\n", "\r"),
            "semicolons": plain.replace(",", ";"),
            "tabs": plain.replace(",", "\t"),
            "utf-16": plain.encode("utf-16"),
            "utf-16, other byte order": b"\xfe\xff" + plain.encode("utf-16-be"),
            "spaces around": " name , grade \n a ,0 \n  b,4\n",
            "quotes": '"name","grade"\n"a","0"\n"b","4"\n',
            "blank rows": "\n,\nname,grade\n\na,0\n,,\n  \nb,4\n\n",
        }.items():
            with self.subTest(kind):
                self.assertEqual(self.read(data), ROWS)

    def test_required_columns_have_the_requested_names(self):
        self.assertEqual(self.read("NAME,Grade\na,0\nb,4\n"), [{"NAME": n, "Grade": g, "name": n, "grade": g}
                                                              for n, g in (("a", "0"), ("b", "4"))])  # fmt: skip

    def test_one_column_may_be_requested_twice(self):
        rows = self.read("Name\na\n", required=("name", "NAME"))
        self.assertEqual((rows[0]["name"], rows[0]["NAME"]), ("a", "a"))

    def test_the_exact_name_wins_over_another_case(self):
        self.assertEqual(self.read("Grade,grade\n1,2\n", required=("grade",))[0]["grade"], "2")
        self.assertEqual(self.read("grade,Grade\n1,2\n", required=("grade",))[0]["grade"], "1")

    def test_cp1252_of_a_western_spreadsheet(self):
        self.assertEqual(self.read("name,grade\nMüller…,1\n".encode("cp1252"))[0]["name"], "Müller…")

    def test_quoted_cells_hold_separators_quotes_and_lines(self):
        self.assertEqual(self.read('name,grade\n"a, ""b""\nc",1\n')[0]["name"], 'a, "b"\nc')

    def test_a_line_separator_inside_a_cell_does_not_cut_the_row(self):
        self.assertEqual(self.read("name,grade\na\u2028b\x0bc,1\n"), [{"name": "a\u2028b\x0bc", "grade": "1"}])

    def test_a_quoted_header_name_with_commas_does_not_decide_the_separator(self):
        self.assertEqual(self.read('"name";"grade, 0, 1, 2"\na;1\n', required=("name",))[0]["name"], "a")

    def test_empty_trailing_columns(self):
        self.assertEqual(
            [{k: v for k, v in row.items() if k} for row in self.read("name,grade,,,\na,0,,,\nb,4,,,\n")], ROWS
        )

    def test_short_rows_are_filled_and_long_rows_cut(self):
        rows = self.read("name,grade\na\nb,1,2,3\n")
        self.assertEqual(rows, [{"name": "a", "grade": ""}, {"name": "b", "grade": "1"}])

    def test_rows_are_numbered_as_a_spreadsheet_does(self):
        self.path.write_text('name,grade\na,1\n\n"b\nc",2\n')
        self.assertEqual([number for number, _ in read_numbered_rows(self.path)], [2, 4])

    def test_missing_column_lists_those_there(self):
        message = self.refusal("image,icdr,,\na,0,,\n")
        self.assertIn("has no column 'name'; it has: image, icdr", message)

    def test_unusable_tables(self):
        for kind, data, expected in (
            ("empty", b"", "is empty"),
            ("only blank lines", b"\n\n , \n", "is empty"),
            ("only a byte-order mark", b"\xef\xbb\xbf", "is empty"),
            ("header only", "name,grade\n", "has a header but no rows"),
            ("repeated column", "name,grade,grade\na,0,1\n", "names a column twice"),
            ("binary", bytes(range(256)) * 4, "is not a text table"),
            ("a spreadsheet's own format", b"PK\x03\x04\x14\0\x06\0" + bytes(100), "is not a text table"),
            ("half a character of utf-16", "name,grade\na,0".encode("utf-16")[:-1], "is not a text table"),
            ("bytes that are no text", b"name,grade\n\x81\x8d,1\n", "is not a text table"),
            ("a quote that never ends", 'name,grade\n"a,0\n' + "b,1\n" * 50000, "cannot be read as a table"),
        ):
            with self.subTest(kind):
                self.assertIn(expected, self.refusal(data))

    def test_absent_file_and_folder(self):
        with self.assertRaisesRegex(UserError, "there is no file"):
            read_table(self.path)
        with self.assertRaisesRegex(UserError, "cannot be read"):
            read_table(self.path.parent)


class ParseWholeNumberTest(unittest.TestCase):
    def test_whole_numbers(self):
        for text, value in (("", -1), ("3", 3), ("2.0", 2), ("-2", -2), (" 4 ".strip(), 4)):
            self.assertEqual(parse_whole_number(text, "grade", absent=-1), value)

    def test_other_texts_are_quoted_in_the_error(self):
        for text in ("2.5", "abc", "nan", "inf", "1e999", "0x1", "1,0"):
            with self.subTest(text), self.assertRaisesRegex(ValueError, f"unknown grade '{text}'"):
                parse_whole_number(text, "grade", absent=-1)


if __name__ == "__main__":
    unittest.main()
