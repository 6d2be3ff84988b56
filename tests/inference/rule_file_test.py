import json
import pathlib
import tempfile
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule_file import read_rule, write_rule
from tests.inference import heads
from tests.inference.drawn import fitted

PREPARATION = Preparation(records="a/512-plain-q95", size=512, enhancement="plain", quality=95, image_size=256)


class FileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "decision.json"

    def test_what_comes_back_decides_the_same_to_the_last_bit(self):
        for head in (heads.Softmax(), heads.Coral(), heads.Corn(), heads.Binary()):
            rule, logits, _ = fitted(head, patients=30, distances=np.arange(60))
            write_rule(self.path, rule, PREPARATION)
            again, preparation = read_rule(self.path, heads.HEADS)
            self.assertEqual(preparation, PREPARATION)
            with self.subTest(head.name):
                self.assertEqual(
                    again.decide(logits, photographs=range(60)), rule.decide(logits, photographs=range(60))
                )
                self.assertEqual(again.modes, rule.modes)

    def test_what_is_broken_is_said_in_one_line(self):
        write_rule(self.path, fitted(heads.Softmax(), patients=60)[0], PREPARATION)
        whole = self.path.read_text()

        def broken(*place, value):
            document = json.loads(whole)
            part = document
            for step in place[:-1]:
                part = part[step]
            part[place[-1]] = value
            return json.dumps(document)

        mode = ("modes", "plain")
        for text, said in {
            "": "no decision file",
            whole[:200]: "no decision file",
            "[" * 100000: "no decision file",
            "[]": "no JSON object",
            "{}": "version None",
            broken("version", value=2): "version 2; this program reads version 1",
            broken("head", "name", value="os.system"): "unknown head 'os.system'; known: softmax",
            broken("head", "config", value={"x": 1}): "cannot be used",
            broken("positive", value="any_dr"): "another definition of positive",
            broken("operating_point", value="best"): "unknown operating point 'best'",
            broken("prior", "shares", value=[0.5, 0.5]): "one share above 0",
            broken("prior", value={}): "'shares' is missing",
            broken(*mode, "calibration", "slope", value=[-1]): "positive slopes",
            broken(*mode, "calibration", "bias", value=[0.0]): "1 logits, the head 5",
            broken(*mode, "calibration", "bias", value=["0"] * 5): "stands where a number belongs",
            broken(*mode, "cuts", value=[3, 2, 1, 0]): "rising",
            broken(*mode, "points", "youden", "threshold", value=None): "stands where a number belongs",
            broken(*mode, "points", "youden", "surprise", value=1): "cannot be used",
            broken("gates", "distance_limit", value="far"): "stands where a number belongs",
            broken("photographs", "enhancement", value="os"): "not one of ours",
            broken("photographs", "size", value=1e9): "not one of ours",
            broken("photographs", value={}): "'enhancement' is missing",
            whole.replace('"gradable_from": 0.5', '"gradable_from": NaN'): "NaN is no number",
        }.items():
            self.path.write_text(text)
            with self.subTest(said), self.assertRaisesRegex(UserError, said) as caught:
                read_rule(self.path, heads.HEADS)
            self.assertNotIn("\n", str(caught.exception))

    def test_an_absent_file(self):
        with self.assertRaisesRegex(UserError, "no decision file that can be read"):
            read_rule(self.path, heads.HEADS)


if __name__ == "__main__":
    unittest.main()
