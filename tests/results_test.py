"""What the README and its picture show is what RESULTS.md says."""

import csv
import pathlib
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PLACES = {"folds": ["RESULTS.md"], "test": ["RESULTS.md", "README.md"], "published": ["README.md"]}


class ResultsTest(unittest.TestCase):
    def test_every_figure_of_the_picture_is_written(self):
        with open(ROOT / "docs/results.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            figure = f"{row['value']} ({row['low']}-{row['high']})" if row["low"] else row["value"]
            for place in PLACES[row["split"]]:
                with self.subTest(row["system"], split=row["split"], figure=row["figure"], place=place):
                    self.assertTrue(figure in (ROOT / place).read_text(encoding="utf-8"), figure)


if __name__ == "__main__":
    unittest.main()
