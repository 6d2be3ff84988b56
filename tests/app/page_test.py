"""The logic of the page, without a browser."""

import unittest

from dr_tf.app.limits import Limits
from dr_tf.app.server import SCRIPT
from dr_tf.app.settings import Settings, use_settings
from dr_tf.console import is_installed
from tests.app.photographs import sample, upload


@unittest.skipUnless(is_installed("streamlit"), "streamlit is not installed: pip install 'dr_tf[app]'")
class PageTest(unittest.TestCase):
    def setUp(self):
        from streamlit.testing.v1 import AppTest

        use_settings(Settings(limits=Limits(files=3)))
        self.addCleanup(use_settings, Settings())
        self.page = AppTest.from_file(str(SCRIPT), default_timeout=120).run()

    def html(self):
        return "\n".join(element.proto.body for element in self.page.get("html"))

    def files(self, *files):
        self.page.file_uploader[0].set_value([upload(*one) for one in files])
        self.page.run()
        self.assertFalse(self.page.exception)

    def test_the_first_visit_states_what_it_is_and_the_limits(self):
        self.assertEqual(self.page.title[0].value, "Diabetic retinopathy screening")
        self.assertIn("Research software", self.html())
        self.assertIn("at most 3 files", self.page.caption[-1].value)
        self.assertNotIn("verdict", self.html().rpartition("</style>")[2])

    def test_a_sample_is_decided_and_the_prevalence_changes_what_it_means(self):
        self.page.button_group(key="sample").set_value("no_retinopathy").run()
        self.assertIn(">Clear<", self.html())
        self.assertIn("show it", self.html())
        before = self.html()
        self.page.number_input(key="prevalence").set_value(60.0).run()
        self.assertNotEqual(self.html(), before)
        self.assertIn(">Clear<", self.html())

    def test_the_next_upload_replaces_the_answer(self):
        self.files(("a.jpg", sample("moderate")))
        self.assertIn(">Refer<", self.html())
        self.files(("b.jpg", sample("not_gradable")))
        self.assertIn(">Retake<", self.html())
        self.assertIn("out of focus", self.html())
        self.assertNotIn(">Refer<", self.html())

    def test_both_eyes_are_shown_side_by_side(self):
        self.files(("12_left.jpg", sample("moderate")), ("12_right.jpg", sample("no_retinopathy")))
        self.assertIn("Left eye: Refer", [one.value for one in self.page.subheader])
        self.assertIn("Right eye: Clear", [one.value for one in self.page.subheader])

    def test_a_batch_is_a_table_with_a_page_for_each_patient(self):
        self.files(("12_left.jpg", sample("moderate")), ("13_left.jpg", b"hello"))
        self.assertEqual(self.page.subheader[0].value, "2 patients: Refer: 1, Retake: 1")
        table = self.page.dataframe[0].value
        self.assertEqual(list(table["action"]), ["Refer", "Retake"])
        self.page.button_group(key="filter").set_value(["retake"]).run()
        self.assertEqual(list(self.page.dataframe[0].value["patient"]), ["13"])
        self.page.selectbox(key="open").set_value(0).run()
        self.assertIn(">Refer<", self.html())

    def test_a_name_is_no_markdown_and_no_markup(self):
        name = "![x](http://example.org/x.png)<img src=x>_left.jpg"
        self.files((name, sample("moderate")), (name.replace("left", "right"), b"hello"))
        shown = [one.value for kind in ("markdown", "caption", "error", "subheader") for one in self.page.get(kind)]
        self.assertFalse([one for one in shown if "example.org" in one])
        self.assertNotIn("<img src=x>", self.html())

    def test_too_many_files_are_refused_in_one_sentence(self):
        self.files(*((f"{i}.jpg", b"x") for i in range(4)))
        self.assertEqual([one.value for one in self.page.error], ["These are 4 files. Upload at most 3 at a time."])

    def test_another_target_gives_another_map(self):
        self.page.button_group(key="sample").set_value("moderate").run()
        self.page.selectbox(key="target").set_value("no DR").run()
        self.assertFalse(self.page.exception)
        key, answer = self.page.session_state["explained"]
        self.assertEqual(key[1], "no DR")
        self.assertEqual(answer.decision.action, "refer")

    def test_the_page_speaks_german(self):
        self.page.selectbox(key="language").set_value("de").run()
        self.assertEqual(self.page.title[0].value, "Screening auf diabetische Retinopathie")
        self.page.button_group(key="sample").set_value("moderate").run()
        self.assertIn(">Überweisen<", self.html())


if __name__ == "__main__":
    unittest.main()
