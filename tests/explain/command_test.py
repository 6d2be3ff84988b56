"""`python -m dr_tf.explain`: a folder goes in, pictures and a page come out."""

import html.parser
import json
import os
import pathlib
import tempfile
import unittest
import urllib.parse

import cv2

from dr_tf.console import MISTAKE
from dr_tf.explain.__main__ import main
from dr_tf.inference.predictor import Predictor
from tests import commands
from tests.explain.runs import write_run
from tests.fundus.drawn import draw_fundus, jpeg


def explain(*arguments):
    """(exit status, what was printed, what was said to stderr)."""
    return commands.run(main, *arguments)


class Sources(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.named = set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.named |= {urllib.parse.unquote(value) for key, value in attributes if key in ("src", "href")}


class CommandTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        write_run(cls.root / "run")
        (cls.root / "in" / "other").mkdir(parents=True)
        photograph = draw_fundus(size=(400, 300), radius=140)
        (cls.root / "in" / "an <eye>.jpg").write_bytes(jpeg(photograph))
        (cls.root / "in" / "other" / "an <eye>.png").write_bytes(
            cv2.imencode(".png", photograph[..., ::-1])[1].tobytes()
        )
        (cls.root / "in" / "broken.jpg").write_bytes(jpeg(photograph)[:2000])

    def test_a_folder(self):
        status, said, warned = explain("--run_dir", self.root / "run", "--output", self.root / "why", self.root / "in")
        why = self.root / "why"
        self.assertEqual(status, 1)  # for the broken one
        self.assertEqual(said.strip(), str(why / "explanations.html"))
        self.assertIn("broken.jpg: the JPEG file is cut short", warned)
        pictures = ["an <eye>.explained.jpg", "an <eye>_2.explained.jpg"]
        told = ["contact_sheet.jpg", "explanations.html", "explanations.json"]
        self.assertEqual(sorted(os.listdir(why)), sorted(pictures + told))
        self.assertEqual(cv2.imread(str(why / pictures[0])).shape, (300 + 3 * 24, 3 * 400, 3))
        self.check_page((why / "explanations.html").read_text(encoding="utf-8"), pictures)
        self.check_figures(json.loads((why / "explanations.json").read_text()), pictures)

    def check_page(self, page, pictures):
        self.assertEqual(Sources(page).named, {*pictures, "contact_sheet.jpg"})
        self.assertIn("an &lt;eye&gt;.jpg", page)
        self.assertNotIn("an <eye>", page)
        self.assertIn("broken.jpg", page)
        for name in ("proliferative DR", "Grad-CAM", "stride_16"):
            self.assertIn(name, page)

    def check_figures(self, figures, pictures):
        self.assertEqual(figures["target"], "positive")
        self.assertEqual(figures["positive"], "referable")
        by_name = {pathlib.Path(p["photograph"]).name: p for p in figures["photographs"]}
        self.assertEqual(
            [by_name[n]["picture"] for n in ("an <eye>.jpg", "an <eye>.png", "broken.jpg")], [*pictures, None]
        )
        # Decided on as `predict` does.
        one = self.root / "in" / "an <eye>.jpg"
        decision = Predictor.of_run(self.root / "run").decide(one)
        self.assertAlmostEqual(by_name[one.name]["p_positive"], decision.p_positive, places=6)
        self.assertIn("grade >= 2", by_name[one.name]["evidence"])

    def test_mistakes_in_one_line(self):
        one = self.root / "in" / "an <eye>.jpg"
        for arguments, said in (
            (("--layer", "top", one), "no layer 'top'; there are stride_4,"),
            (("--target", "grade >= 9", one), "no target is called 'grade >= 9'; there are no DR,"),
            (("--method", "scam", one), "unknown method 'scam'; known: grad_cam,"),
            ((self.root / "nothing",), "there is no file"),
        ):
            with self.subTest(said):
                run = ("--run_dir", self.root / "run", "--output", self.root / "no")
                status, _, told = explain(*run, *arguments)
                self.assertEqual(status, MISTAKE)
                self.assertRegex(told, f"error: .*{said}.*\n$")  # a bar may stand before it
        self.assertFalse((self.root / "no").exists())

    def test_pictures_are_not_written_among_the_photographs(self):
        status, _, told = explain("--run_dir", "run", "--output", self.root / "in" / "why", self.root / "in")
        self.assertEqual(status, MISTAKE)
        self.assertIn("lies among the photographs", told)


if __name__ == "__main__":
    unittest.main()
