"""The page in Chromium: uploads, the viewer, downloads, keyboard, phone, contrast, and memory."""

import json
import os
import pathlib
import shutil
import tempfile
import unittest

import pytest

from dr_tf.console import is_installed
from tests.app.photographs import bomb, sample
from tests.app.servers import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESKTOP, PHONE = {"width": 1280, "height": 1000}, {"width": 390, "height": 844}
TALL = {"width": 1280, "height": 1600}
_IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"


@unittest.skipUnless(
    is_installed("playwright") and is_installed("streamlit"), "playwright or streamlit is not installed"
)
@unittest.skipUnless(CHROMIUM, "chromium is not installed: see apt.txt")
class BrowserCase(unittest.TestCase):
    """One server and one browser for all tests; each test has a visit of its own."""

    flags = ("--max_file_mb", 1, "--max_files", 12)

    @classmethod
    def setUpClass(cls):
        from playwright.sync_api import sync_playwright

        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.server = Server(cls.folder, *cls.flags)
        cls.addClassCleanup(cls.server.stop)
        playwright = cls.enterClassContext(sync_playwright())
        cls.browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        cls.addClassCleanup(cls.browser.close)

    def visit(self, size=DESKTOP, address=""):
        context = self.browser.new_context(viewport=size, accept_downloads=True)
        self.addCleanup(context.close)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.goto(self.server.url + address)
        page.get_by_role("heading", level=1).wait_for()
        return page

    def file(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def upload(self, page, *files):
        page.locator("input[type=file]").set_input_files([self.file(*one) for one in files])

    def word(self, page, word):
        page.locator(".verdict .word", has_text=word).wait_for()


class BrowserTest(BrowserCase):
    def test_one_photograph_and_the_viewer(self):
        page = self.visit()
        self.upload(page, ("a.jpg", sample("moderate")))
        self.word(page, "Refer")
        viewer = page.locator(".viewer")
        viewer.locator("img").nth(2).wait_for()
        slider, layer = viewer.get_by_role("slider"), viewer.locator("img").nth(2)
        slider.focus()
        page.keyboard.press("Home")
        self.assertEqual(layer.evaluate("one => one.style.opacity"), "0")
        page.keyboard.press("End")
        self.assertEqual(layer.evaluate("one => one.style.opacity"), "1")
        window = viewer.locator(".window").first
        window.focus()
        page.keyboard.press("+")
        page.keyboard.press("ArrowRight")
        self.assertIn("scale(1.5)", viewer.locator(".stack").nth(1).get_attribute("style"))
        page.keyboard.press("0")
        self.assertIn("scale(1)", viewer.locator(".stack").first.get_attribute("style"))
        viewer.get_by_role("button", name="Zoom in").click()
        self.assertIn("scale(1.5)", viewer.locator(".stack").first.get_attribute("style"))

    def test_both_eyes_and_the_reports(self):
        page = self.visit()
        self.upload(page, ("12_left.jpg", sample("moderate")), ("12_right.jpg", sample("no_retinopathy")))
        self.word(page, "Refer")
        page.get_by_role("heading", name="Right eye: Clear").wait_for()
        with page.expect_download() as started:
            page.get_by_role("button", name="Report (HTML)").click()
        text = pathlib.Path(started.value.path()).read_text(encoding="utf-8")
        self.assertIn("Patient 12", text)
        with page.expect_download() as started:
            page.get_by_role("button", name="Report (PDF)").click()
        self.assertTrue(pathlib.Path(started.value.path()).read_bytes().startswith(b"%PDF"))
        self.assertEqual(started.value.suggested_filename, "dr_tf_12.pdf")

    def test_a_batch_with_broken_files(self):
        page = self.visit(TALL)  # a list that opens while the page scrolls closes again
        self.upload(
            page, ("12_left.jpg", sample("moderate")), ("13.jpg", sample("no_retinopathy")), ("bomb.png", bomb()),
            ("=1+1.jpg", sample("moderate")[:9000]), ("<b>x.jpg", b"hello"),
        )  # fmt: skip
        page.get_by_role("heading", name="5 patients: Refer: 1, Retake: 3, Clear: 1").wait_for()
        page.get_by_text("They are neither stored nor logged.").wait_for()  # the end of the page
        page.get_by_role("combobox", name="Patient to open").fill("12")
        page.get_by_role("option", name="12: Refer").wait_for()
        page.keyboard.press("Enter")
        self.word(page, "Refer")
        with page.expect_download() as started:
            page.get_by_role("button", name="Table (CSV)").click()
        lines = pathlib.Path(started.value.path()).read_text(encoding="utf-8-sig")
        self.assertIn("\n'=1+1.jpg,retake", lines)
        with page.expect_download() as started:
            page.get_by_role("button", name="Data (JSON)").click()
        self.assertEqual(len(json.loads(pathlib.Path(started.value.path()).read_text())), 5)

    def test_too_large_and_too_many_are_one_sentence(self):
        page = self.visit()
        self.upload(page, ("large.jpg", os.urandom(1_200_000)))
        page.get_by_text("must be 1.0MB or smaller").wait_for()
        self.upload(page, *((f"{i}.jpg", b"x") for i in range(13)))
        page.get_by_text("Upload at most 12 at a time.").wait_for()

    def test_by_keyboard_alone(self):
        page = self.visit()
        page.get_by_text("No retinopathy").wait_for()
        page.locator(_IDLE).wait_for()
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.innerText") == "No retinopathy":
                break
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.activeElement.innerText == 'Moderate'", timeout=5000)
        page.keyboard.press("Space")
        page.locator(".verdict").wait_for()
        page.get_by_text("Report (PDF)").wait_for()
        page.locator(".viewer img").first.wait_for()
        page.locator(_IDLE).wait_for()
        reached = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.add(page.evaluate(_FOCUSED))
        for name in ("Opacity of the map", "Zoom in", "Report (PDF)", "Prevalence at your clinic, in %"):
            self.assertTrue(any(name in one for one in reached), (name, reached))

    def test_on_a_phone_nothing_is_wider_than_the_screen(self):
        page = self.visit(PHONE)
        page.get_by_text("Moderate", exact=True).first.click()
        self.word(page, "Refer")
        page.locator(".viewer img").first.wait_for()
        wider = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth - innerWidth")
        self.assertLessEqual(wider, 0)
        boxes = [pane.bounding_box() for pane in page.locator(".viewer .pane").all()]
        self.assertGreater(boxes[1]["y"], boxes[0]["y"] + boxes[0]["height"] - 1)

    def test_contrast_and_roles(self):
        page = self.visit()
        page.get_by_text("Both eyes", exact=True).first.click()
        self.word(page, "Refer")
        page.locator(".viewer img").first.wait_for()
        self.check_accessible(page)

    @pytest.mark.slow
    def test_contrast_and_roles_of_a_batch(self):
        page = self.visit()
        self.upload(page, ("12_left.jpg", sample("moderate")), ("13.jpg", b"hello"))
        page.get_by_test_id("stDataFrame").wait_for()
        self.check_accessible(page)

    def check_accessible(self, page):
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(page).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        self.assertEqual([(one["id"], str(node["target"])) for one in serious for node in one["nodes"]], [])

    def test_nothing_is_asked_of_another_machine(self):
        page = self.visit()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        page.get_by_text("Moderate", exact=True).first.click()
        self.word(page, "Refer")
        self.assertTrue(asked)
        self.assertEqual([one for one in asked if not one.startswith((self.server.url, "data:", "blob:"))], [])

    def test_photographs_are_neither_written_nor_logged(self):
        page = self.visit()
        self.upload(page, ("secret_left.jpg", sample("moderate")), ("secret_right.png", bomb()))
        self.word(page, "Refer")
        written = [path.name for path in (self.folder / "temporary").iterdir()]
        self.assertLessEqual(set(written), {".ses"})  # a random number of ONNX Runtime
        self.assertNotIn("secret", self.server.log())

    @pytest.mark.slow
    def test_memory_stays_bounded(self):
        self.assertLess(self.growth(warm=2, uploads=3), 60)

    @pytest.mark.slow
    def test_memory_stays_bounded_over_500_uploads(self):
        self.assertLess(self.growth(warm=20, uploads=500), 100)

    def growth(self, *, warm, uploads):
        """How many megabytes the server grows by, after it is warm."""
        page, before = self.visit(), 0.0
        for number in range(warm + uploads):
            if number == warm:
                before = self.server.resident_megabytes()
            name = ("moderate", "not_gradable")[number % 2]
            page.locator("input[type=file]").set_input_files([self.file(f"{number}.jpg", sample(name))])
            self.word(page, ("Refer", "Retake")[number % 2])
            page.locator(
                "[data-testid=stFileChipDeleteBtn] button, [data-testid=stFileUploaderDeleteBtn] button"
            ).first.click()
            page.locator(".verdict").wait_for(state="detached")
        return self.server.resident_megabytes() - before


_FOCUSED = """() => {
  let one = document.activeElement;
  while (one.shadowRoot?.activeElement) one = one.shadowRoot.activeElement;
  return [one.getAttribute("aria-label"), one.title, one.innerText, one.labels?.[0]?.innerText].join(" ");
}"""


if __name__ == "__main__":
    unittest.main()
