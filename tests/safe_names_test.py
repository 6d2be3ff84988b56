"""Every file name is escaped to one printable line, and the escape can be undone."""

import csv
import os
import unittest

from hypothesis import given
from hypothesis import strategies as st

from dr_tf.safe_names import csv_cell, csv_line, file_stem, printable, unescape

NASTY = ["a\nb.jpg", "a\rb", "\x1b[31mred", "a\\x0ab", "a\\", os.fsdecode(b"\xff\xfe.jpg"), "a\u202egpj.exe", "\x00", "\ud800",
         "\U000e0001", "Müller 眼.jpg"]  # fmt: skip
BYTES = st.binary(max_size=40).map(os.fsdecode)
TEXT = st.text(st.characters(codec=None), max_size=40)


class PrintableTest(unittest.TestCase):
    def test_by_hand(self):
        for name, written in {
            "a\nb.jpg": "a\\x0ab.jpg",
            "\x1b[2J": "\\x1b[2J",
            os.fsdecode(b"\xff.jpg"): "\\xff.jpg",
            "a\x85b": "a\\u0085b",
            "a\u202eb": "a\\u202eb",
            "a\\x0ab": "a\\\\x0ab",
            "Müller 眼.jpg": "Müller 眼.jpg",
        }.items():
            self.assertEqual(printable(name), written)

    def test_nasty_ones(self):
        for name in NASTY:
            with self.subTest(repr(name)):
                self.check(name)

    @given(BYTES | TEXT)
    def test_any(self, name):
        self.check(name)

    def check(self, name):
        written = printable(name)
        self.assertTrue(written.isprintable())
        written.encode("utf-8")
        self.assertEqual(unescape(written), name)


class CellTest(unittest.TestCase):
    def test_no_formula(self):
        for text in ("=1+1", "+1", "-1", "@SUM(A1)", "'=1"):
            self.assertEqual(csv_cell(text), "'" + text)
        self.assertEqual([csv_cell(value) for value in (-1.5, None, "a=b")], [-1.5, None, "a=b"])
        self.assertEqual(csv_cell("\t=1"), "\\x09=1")

    @given(st.lists(BYTES | TEXT, min_size=1, max_size=4))
    def test_a_row_is_one_line_and_comes_back(self, names):
        line = csv_line(names)
        self.assertEqual(len(line.splitlines()), 1 if line else 0)
        (row,) = csv.reader([line]) if line else ([""],)
        self.assertEqual([unescape(text.removeprefix("'")) for text in row], names)


class FileStemTest(unittest.TestCase):
    def test_by_hand(self):
        self.assertEqual(file_stem("an <eye>", 200), "an <eye>")
        self.assertEqual(file_stem("a\nb\\c/d", 200), "a_b_c_d")
        self.assertEqual(file_stem(os.fsdecode(b"\xff"), 200), "_")
        self.assertEqual(file_stem("眼眼眼", 7), "眼眼")
        self.assertEqual(file_stem("ae\u0301", 3), "a")
        self.assertEqual(file_stem("", 7), "_")

    @given(BYTES | TEXT, st.integers(1, 60))
    def test_any(self, name, most):
        stem = file_stem(name, most)
        self.assertLessEqual(len(stem.encode("utf-8")), most)
        self.assertTrue(stem.isprintable() and "/" not in stem)


if __name__ == "__main__":
    unittest.main()
