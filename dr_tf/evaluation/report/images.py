"""Pictures of a record set's examples for the report; the eyes of a pair stand one above the other."""

import numpy as np

from dr_tf.evaluation.recorded_cases import recorded_batches
from dr_tf.explain.captions import about_colours, plain_target
from dr_tf.explain.crop_maps import default_explainer, explain_crops, stack_eyes
from dr_tf.fundus.prepare import encode_jpeg

_BATCH = 16


class MistakeImages:
    """`row_of` maps the ids of predictions to rows of `records`; `fitted`: the run's scale of colours, or None."""

    def __init__(self, records, row_of, network, rule, fitted=None):
        self._records, self._row_of, self._network, self._rule = records, row_of, network, rule
        self._fitted = fitted
        self.colours = ""  # what they mean in the overlays that `reasons` gave last

    def photograph(self, name):
        """JPEG bytes."""
        return encode_jpeg(stack_eyes(self._crops(self._row_of[name])))

    def reasons(self, names):
        """{id: the photograph under what speaks for positive there, as JPEG}; empty where the network has no maps."""
        rows = [self._row_of[name] for name in names]
        explainer = default_explainer(self._network.model, self._rule) if rows else None
        if explainer is None:
            return {}
        batches = recorded_batches(self._records, rows, self._network.image_size, _BATCH)
        found = explain_crops(explainer, (x for x, _ in batches), self._fitted)
        self.colours = about_colours(found.full_colour, plain_target("positive", self._rule.head.positive))
        pairs = zip(names, rows, found.maps, strict=True)
        return {name: encode_jpeg(stack_eyes(self._crops(row), of)) for name, row, of in pairs}

    def _crops(self, row):
        black = np.zeros((self._records.image_size,) * 2 + (3,), np.uint8)
        return {
            eye: self._records.image(row, eye) if self._records.present(eye)[row] else black
            for eye in self._records.eyes
        }
