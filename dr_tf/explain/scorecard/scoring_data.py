"""The examples that a scorecard is computed on, with their masks, and which of them are predicted positive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from dr_tf.explain.blurring import retina_mask
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.scorecard.masks import any_lesion, read_masks, rows_with_masks
from dr_tf.explain.scorecard.record_images import Examples, ImageRecords
from dr_tf.fundus.prepare import resize_square
from dr_tf.models.heads.head import positive_labels

ANY_LESION = "any lesion"
SLOW_EXAMPLES = 4  # randomized for methods that run the network many times
_MAX_EXAMPLES, _SEED = 64, 0  # a random sample of the rows, always the same
_RANDOMIZATION_EXAMPLES = 16
_BATCH = 16
_MASK_COVERAGE = 0.2  # a pixel of a resized mask counts if at least this share of it is lesion


def sample_rows(records: ImageRecords, rows: np.ndarray) -> np.ndarray:
    """Draw at most 64 of the rows, always the same ones; those with lesion masks come first."""
    drawn, with_masks = np.random.default_rng(_SEED).permutation(rows), rows_with_masks(records, rows)
    return np.sort(drawn[np.argsort(~np.isin(drawn, list(with_masks)), kind="stable")][:_MAX_EXAMPLES])


class ScoringData:
    """Examples with retina masks and lesion masks, and which of them are predicted positive."""

    def __init__(self, records: ImageRecords, rows: np.ndarray, explainer: Explainer):
        size = explainer.image_size
        self.examples = Examples.from_records(records, rows, size)
        self.retinas = {eye: [retina_mask(image) for image in images] for eye, images in self.examples.images.items()}
        self.masks = _lesion_masks(records, rows, explainer.head.positive, size)
        self.positive = np.flatnonzero(in_batches(explainer.evidence, self.examples) > 0)
        self.randomization_examples = self.examples.take(slice(_RANDOMIZATION_EXAMPLES))


def _lesion_masks(records, rows, definition, size):
    """{(position in rows, eye): {lesion: mask}}, without eyes whose own label rules out the definition."""
    stored, masks = read_masks(records, rows), {}
    may_be_positive = {eye: positive_labels(definition, _labels(records, rows, eye)) != 0 for eye in records.eyes}
    for i, row in enumerate(rows.tolist()):
        for eye in records.eyes:
            if may_be_positive[eye][i] and (row, eye) in stored:
                masks[i, eye] = _resize_masks(stored[row, eye], size)
    return masks


def _labels(records, rows, eye):
    column_of = {name: f"{eye}/{name}" if eye else name for name in ("grade", "any_dr", "dme", "labels")}
    return {name: records.columns[column][rows] for name, column in column_of.items() if column in records.columns}


def _resize_masks(masks, size):
    masks = {ANY_LESION: any_lesion(masks)} | masks
    return {
        name: resize_square(mask.astype(np.uint8) * 255, size) >= _MASK_COVERAGE * 255 for name, mask in masks.items()
    }


def in_batches(function: Callable[[Any], Any], examples: Examples) -> Any:
    """Call a function of network inputs in batches, and concatenate its arrays."""
    starts = range(0, len(examples), _BATCH)
    results = [function(examples.take(slice(start, start + _BATCH)).network_input()) for start in starts]
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *results)
