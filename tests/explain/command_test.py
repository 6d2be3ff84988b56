"""`dr_tf explain`: pictures, contact sheets, page and JSON of a folder of images."""

import html.parser
import json
import os
import pathlib
import tempfile
import unittest
import unittest.mock
import urllib.parse

import cv2
import pytest

from dr_tf.cli.explain import main
from dr_tf.console import EXIT_USER_ERROR
from dr_tf.explain.colour_scale import write_scale
from dr_tf.explain.decide_and_explain import decide_and_explain, decide_and_explain_one
from dr_tf.explain.explainer import Explainer
from dr_tf.inference.predictor import Predictor
from dr_tf.safe_names import unescape
from tests import commands, tiny
from tests.explain.runs import write_run
from tests.fundus.synthetic_images import draw_fundus, jpeg


def explain(*arguments):
    """Run the command; return (exit status, stdout, stderr)."""
    return commands.run(main, *arguments)


class LinkedFiles(html.parser.HTMLParser):
    """The files that a page links to or shows."""

    def __init__(self, page):
        super().__init__()
        self.names = set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.names |= {urllib.parse.unquote(value) for key, value in attributes if key in ("src", "href")}


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
        self.assertEqual(cv2.imread(str(why / pictures[0])).shape, (300 + 4 * 24, 3 * 400, 3))
        self.check_page((why / "explanations.html").read_text(encoding="utf-8"), pictures)
        self.check_figures(json.loads((why / "explanations.json").read_text()), pictures)

    def check_page(self, page, pictures):
        self.assertEqual(LinkedFiles(page).names, {*pictures, "contact_sheet.jpg"})
        self.assertIn("an &lt;eye&gt;.jpg", page)
        self.assertNotIn("an <eye>", page)
        self.assertIn("broken.jpg", page)
        for name in ("proliferative DR", "HiResCAM", "stride_16"):
            self.assertIn(name, page)

    def check_figures(self, figures, pictures):
        self.assertEqual(figures["target"], "positive")
        self.assertEqual(figures["positive"], "referable")
        by_name = {pathlib.Path(p["case"]).name: p for p in figures["cases"]}
        self.assertEqual(
            [by_name[n]["picture"] for n in ("an <eye>.jpg", "an <eye>.png", "broken.jpg")], [*pictures, None]
        )
        # Decided on as `predict` does.
        one = self.root / "in" / "an <eye>.jpg"
        decision = Predictor.from_run(self.root / "run").decide(one)
        self.assertAlmostEqual(by_name[one.name]["p_positive"], decision.p_positive, places=6)
        self.assertIn("grade >= 2", by_name[one.name]["evidence"])

    @pytest.mark.slow
    def test_colour_scale_of_the_run(self):
        one, run = self.root / "in" / "an <eye>.jpg", self.root / "scaled"
        write_run(run)
        scale = {"method": "hires_cam", "layer": "stride_16", "target": "positive", "value": 1000.0, "photographs": 20}
        write_scale(run, {"version": 1, "scales": [scale]})
        said = {}
        for name, more in {"scaled": (), "stretched": ["--stretch"], "other": ["--layer", "stride_8"]}.items():
            status, _, _ = explain("--run_dir", run, "--output", self.root / name, *more, one)
            self.assertEqual(status, 0)
            picture = cv2.imread(str(self.root / name / "an <eye>.explained.jpg"))
            changed = abs(picture[:300, :400].astype(int) - picture[:300, 800:]).max()
            figures = json.loads((self.root / name / "explanations.json").read_text())
            page = (self.root / name / "explanations.html").read_text(encoding="utf-8")
            said[name] = changed > 40, figures["colours"], figures["full_colour"], "scaled to its own" in page
            self.assertIn("linear-gradient", page)
        self.assertEqual(said["scaled"], (False, "one scale", 1000.0, False))
        self.assertEqual(said["stretched"], (True, "stretched", None, True))
        self.assertEqual(said["other"], (True, "stretched", None, True))

    def test_unusual_file_names(self):
        """An error would lose all pictures, as they are drawn after the decisions."""
        folder, photograph = self.root / "names", (self.root / "in" / "an <eye>.jpg").read_bytes()
        folder.mkdir()
        names = [os.fsdecode(b"\xff\xfe.jpg"), "a\nb.jpg", "\x1b[31mred.jpg", "é" * 125 + ".jpeg", "é" * 125 + ".jpg",
                 "a\\b.jpg", "\u202egpj.jpg", "=1+1.jpg"]  # fmt: skip
        for name in names:
            (folder / name).write_bytes(photograph)
        (folder / "bad\n\x1b.jpg").write_bytes(photograph[:1000])
        status, said, warned = explain("--run_dir", self.root / "run", "--output", self.root / "named", folder)
        self.assertEqual(status, 1)
        self.assertTrue(said.strip().isprintable())
        self.assertIn("bad\\x0a\\x1b.jpg: ", warned)
        self.assertNotIn("\x1b.jpg", warned)
        figures = json.loads((self.root / "named" / "explanations.json").read_text())["cases"]
        self.assertEqual({os.path.basename(unescape(of["case"])) for of in figures if of["picture"]}, set(names))
        pictures = {of["picture"] for of in figures if of["picture"]}
        self.assertEqual(len(pictures), len(names))
        page = (self.root / "named" / "explanations.html").read_text(encoding="utf-8")
        self.assertEqual(LinkedFiles(page).names, {*pictures, "contact_sheet.jpg"})
        for name in pictures:
            self.assertTrue((self.root / "named" / name).exists())
        for character in ("\x1b", "\u202e"):
            self.assertNotIn(character, page)

    def test_files_that_change_after_the_decision(self):
        folder, photograph = self.root / "moving", (self.root / "in" / "an <eye>.jpg").read_bytes()
        folder.mkdir()
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            (folder / name).write_bytes(photograph)

        def and_then(*arguments):
            for number, decided in enumerate(decide_and_explain(*arguments)):
                if number == 0:
                    (folder / "a.jpg").unlink()
                    (folder / "b.jpg").write_bytes(photograph + b" ")
                yield decided

        with unittest.mock.patch("dr_tf.explain.gallery.decide_and_explain", and_then):
            status, _, warned = explain("--run_dir", self.root / "run", "--output", self.root / "moved", folder)
        self.assertEqual(status, 1)
        self.assertIn("a.jpg: decided, but not drawn: No such file or directory\n", warned)
        self.assertIn("b.jpg: decided, but not drawn: the file has changed since the decision\n", warned)
        figures = json.loads((self.root / "moved" / "explanations.json").read_text())["cases"]
        self.assertEqual([of["picture"] for of in figures], [None, None, "c.explained.jpg"])
        self.assertTrue(all(of["evidence"] for of in figures))
        page = (self.root / "moved" / "explanations.html").read_text(encoding="utf-8")
        self.assertEqual(LinkedFiles(page).names, {"c.explained.jpg", "contact_sheet.jpg"})
        self.assertIn("the file has changed since the decision", page)

    def test_one_call_decides_and_explains(self):
        one = self.root / "in" / "an <eye>.jpg"
        predictor = Predictor.from_run(self.root / "run")
        network = predictor.run.network
        explainer = Explainer(network.model, predictor.rule.head)
        decision, explanation = decide_and_explain_one(predictor, explainer, one)
        self.assertIs(predictor.run.network, network)
        self.assertAlmostEqual(decision.p_positive, predictor.decide(one).p_positive, places=6)
        self.assertEqual({eye: of.shape for eye, of in explanation.maps.items()}, {"": (4, 4)})
        _, missing = decide_and_explain_one(predictor, explainer, self.root / "in" / "broken.jpg")
        self.assertIsNone(missing)

    @pytest.mark.slow
    def test_mode_of_the_predictor(self):
        one, probabilities = tiny.photographs()[0], {}
        for mode in ("plain", "tta4", "knn"):
            predictor = Predictor.from_run(tiny.run_dir(), mode)
            explainer = Explainer(predictor.run.network.model, predictor.rule.head)
            decision, explanation = decide_and_explain_one(predictor, explainer, one)
            self.assertAlmostEqual(decision.p_positive, predictor.decide(one).p_positive, places=6)
            self.assertIsNotNone(explanation)
            probabilities[mode] = round(decision.p_positive, 6)
        self.assertEqual(len(set(probabilities.values())), 3, probabilities)

    def test_mistakes_in_one_line(self):
        one = self.root / "in" / "an <eye>.jpg"
        for arguments, said in (
            (("--layer", "top", one), "no layer 'top'; there are stride_4,"),
            (("--target", "grade >= 9", one), "unknown target 'grade >= 9'; there are no DR,"),
            (("--method", "scam", one), "unknown method 'scam'; known: grad_cam,"),
            ((self.root / "nothing",), "there is no file"),
        ):
            with self.subTest(said):
                run = ("--run_dir", self.root / "run", "--output", self.root / "no")
                status, _, told = explain(*run, *arguments)
                self.assertEqual(status, EXIT_USER_ERROR)
                self.assertRegex(told, f"error: .*{said}.*\n$")  # a bar may stand before it
        self.assertFalse((self.root / "no").exists())

    def test_output_inside_the_input_folder(self):
        status, _, told = explain("--run_dir", "run", "--output", self.root / "in" / "why", self.root / "in")
        self.assertEqual(status, EXIT_USER_ERROR)
        self.assertIn("is inside the image folder", told)


if __name__ == "__main__":
    unittest.main()
