"""Every language has the same words to say, with the same placeholders, and the page asks for no other."""

import json
import pathlib
import re
import string
import unittest

import dr_tf.app
from dr_tf.app.messages import Messages, languages
from dr_tf.grades import DME_RISKS, GRADES, POSITIVE_DEFINITIONS

FOLDER = pathlib.Path(dr_tf.app.__file__).parent


def texts(language):
    return json.loads((FOLDER / "messages" / f"{language}.json").read_text(encoding="utf-8"))


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


class MessagesTest(unittest.TestCase):
    def test_english_comes_first_and_german_is_there(self):
        self.assertEqual(list(languages().items())[:2], [("en", "English"), ("de", "Deutsch")])

    def test_all_languages_have_the_same_keys_and_placeholders(self):
        english = texts("en")
        for language in languages():
            translated = texts(language)
            self.assertEqual(translated.keys(), english.keys(), language)
            for key, text in english.items():
                self.assertEqual(placeholders(translated[key]), placeholders(text), f"{language}: {key}")
                self.assertTrue(translated[key].strip(), key)

    def test_every_word_that_the_code_asks_for_exists_and_every_word_is_used(self):
        source = "".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py"))
        english = texts("en")
        asked = set(re.findall(r"""(?:messages|\bt)\(\s*["']([\w.]+)["']""", source))
        self.assertLessEqual(asked, english.keys())
        kinds = set(re.findall(r'f"(\w+)\.\{', source)) | {
            "class",
            "definition",
            "method",
            "remark",
            "advice",
        }
        named = set(re.findall(r'"([a-z_]+\.[\w]+)"', source))
        for key in english.keys() - asked - named - {"language"}:
            self.assertIn(key.split(".")[0], kinds, key)

    def test_every_class_and_definition_has_words(self):
        english = texts("en")
        for name in (*GRADES, *DME_RISKS):
            self.assertIn(f"class.{name}", english)
        for name in POSITIVE_DEFINITIONS:
            self.assertIn(f"definition.{name}", english)

    def test_percent_never_says_never_or_always(self):
        messages = Messages()
        self.assertEqual([messages.percent(p) for p in (0, 0.004, 0.126, 0.996, 1)],
                         ["0 %", "below 1 %", "13 %", "above 99 %", "100 %"])  # fmt: skip

    def test_a_name_without_words_is_shown_as_it_is(self):
        self.assertEqual(Messages().name("class", "grade_x"), "grade x")


if __name__ == "__main__":
    unittest.main()
