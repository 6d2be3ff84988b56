"""Rows with a known label are evaluated; labels that cannot determine positives are refused."""

import types
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.protocol.evaluation_set import labelled_rows
from dr_tf.models.heads.binary import Binary
from dr_tf.models.heads.softmax import Softmax


def _records(**columns):
    return types.SimpleNamespace(name="a/b", columns={name: np.array(values) for name, values in columns.items()})


def _known(head, rows=None, **columns):
    records = _records(**columns)
    rows = np.arange(len(records.columns["grade"])) if rows is None else np.array(rows)
    found, excluded = labelled_rows(records, rows, head, split="test")
    return found.tolist(), excluded


class LabelledRowsTest(unittest.TestCase):
    def test_unknown_labels_are_counted(self):
        found, excluded = _known(Softmax(), grade=[0, -1, 3, -1], any_dr=[0, 1, 1, 0])
        self.assertEqual(found, [0, 2, 3])  # ungraded, but without any retinopathy
        self.assertEqual(excluded, {"the label does not determine whether it is referable": 1})

    def test_only_the_rows_asked_for(self):
        self.assertEqual(_known(Softmax(), rows=[2, 3], grade=[-1, -1, 0, 4]), ([2, 3], {}))

    def test_labels_missing(self):
        with self.assertRaisesRegex(UserError, "no label of a/b, test, determines whether a photograph is referable"):
            _known(Softmax(), grade=[-1, -1])

    def test_labels_that_determine_only_positives_or_only_negatives(self):
        """Without the risk of edema a moderate grade is positive, and no grade is negative."""
        with self.assertRaisesRegex(UserError, "determines that a photograph is not referable_or_dme"):
            _known(Binary("referable_or_dme"), grade=[0, 1, 2], dme=[-1, -1, -1])
        with self.assertRaisesRegex(UserError, "determines that a photograph is referable"):
            _known(Binary("referable"), grade=[-1, -1, 0], any_dr=[1, 0, 0])

    def test_a_single_class_is_evaluated_where_all_labels_are_known(self):
        self.assertEqual(_known(Binary("referable"), grade=[0, 1, 0]), ([0, 1, 2], {}))
