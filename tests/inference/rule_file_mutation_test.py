"""A decision.json with any part replaced by junk is refused in one line, or decides with finite probabilities."""

import copy
import json
import pathlib
import tempfile
import unittest

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dr_tf.console import UserError
from dr_tf.inference.formats import FORMATS
from dr_tf.inference.rule_file import read_rule, write_rule
from tests.inference import heads
from tests.inference.rule_file_test import PREPARATION, complete_rule

RULE, *_EVIDENCE = complete_rule()
CASES = range(5)
SCORES, OTHER_LOGITS = ({name: values[: len(CASES)] for name, values in by_name.items()} for by_name in _EVIDENCE)
JUNK_LEAVES = (
    None, True, False, 0, 1, -1, 2, 0.5, 1e-300, 5e-324, 1e308, -1e308, 10**400, float("nan"), float("inf"), 1 << 63,
    "", "0.5", "referable", "é\n\x1b[31m", "\ud800", "plain", [], {}, [0.2] * 5, [1e308] * 5, [[]], {"threshold": 0.5},
)  # fmt: skip
JUNK = st.sampled_from(JUNK_LEAVES) | st.recursive(
    st.sampled_from(JUNK_LEAVES) | st.floats() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places(tree, place=()):
    """All places of a JSON tree, those of branches and of leaves."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in parts:
        yield (*place, key)
        yield from places(part, (*place, key))


def replaced(tree, place, value):
    """A copy of the tree with another value at a place."""
    tree = copy.deepcopy(tree)
    part = tree
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return tree


class MutationTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.path = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory())) / "decision.json"
        write_rule(cls.path, RULE, PREPARATION)
        cls.document = json.loads(cls.path.read_text())
        cls.places = [place for place in places(cls.document) if "report" not in place[:-1]]

    def check(self, text):
        """Read the text; return whether it was accepted."""
        self.path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            rule, _ = read_rule(self.path, heads.HEADS)
        except UserError as error:
            self.assertEqual(len(str(error).splitlines()), 1, repr(str(error)))
            return False
        for mode in rule.modes:
            self.assert_finite(rule, mode)
        return True

    def assert_finite(self, rule, mode):
        known = {name: SCORES.get(name, SCORES["tta4"]) for name in {*rule.modes, *SCORES}}
        outputs = {name: OTHER_LOGITS[name] for name in rule.other_outputs}
        decisions = rule.decide(known, cases=CASES, outputs=outputs, mode=mode, distances=np.arange(len(CASES)))
        for decision in decisions:
            for probabilities in (decision.probabilities, *decision.other_outputs.values()):
                values = np.array(list(probabilities.values()))
                self.assertTrue(len(values) and np.isfinite(values).all())
                self.assertTrue((values >= 0).all() and (values <= 1 + 1e-9).all(), values)
            self.assertTrue(np.isfinite(decision.threshold))
        for write in FORMATS.values():
            for line in write(decisions, rule):
                line.encode()

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.data())
    def test_any_part_replaced_by_junk(self, data):
        place = data.draw(st.sampled_from(self.places))
        self.check(json.dumps(replaced(self.document, place, data.draw(JUNK))))

    def test_every_part_replaced_by_each_kind_of_junk(self):
        for place in self.places:
            if len(place) == 1:
                for junk in JUNK_LEAVES:
                    with self.subTest(place=place, junk=repr(junk)[:40]):
                        self.check(json.dumps(replaced(self.document, place, junk)))

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.data())
    def test_any_part_missing(self, data):
        place = data.draw(st.sampled_from(self.places))
        document = copy.deepcopy(self.document)
        part = document
        for key in place[:-1]:
            part = part[key]
        del part[place[-1]]
        self.check(json.dumps(document))

    def test_a_key_that_occurs_twice_is_refused(self):
        text = json.dumps(self.document)
        self.assertTrue(self.check(text))
        for key in ("operating_point", "prior", "decides"):
            twice = f'{{"{key}": {json.dumps(self.document[key])}, {text[1:]}'
            self.assertFalse(self.check(twice), key)

    def test_numbers_that_no_float_holds(self):
        for number in ("1e999", "-1e999", "NaN", "Infinity", "9" * 400, "9" * 5000):
            text = json.dumps(self.document).replace('"gradable_from": 0.5', f'"gradable_from": {number}')
            self.assertFalse(self.check(text), number[:10])

    def test_thresholds_that_are_no_probabilities_are_refused(self):
        place = ("modes", "plain", "operating_points", "referable", RULE.operating_point_name, "threshold")
        for threshold in (-1, 1.5, 1e308, -1e-9):
            self.assertFalse(self.check(json.dumps(replaced(self.document, place, threshold))), threshold)


if __name__ == "__main__":
    unittest.main()
