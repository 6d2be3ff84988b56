"""Examples of a record set as cases: the same photographs, gradability and geometry that prediction takes from originals."""

import numpy as np

from dr_tf.data.batches import ordered_batches
from dr_tf.data.images import ImageLoader
from dr_tf.fundus.geometry import Geometry
from dr_tf.fundus.gradability import GRADABLE, low_gradability_reason
from dr_tf.inference.case import SINGLE
from dr_tf.inference.decision import ImageInfo

_PARTS = ("exposure", "field", "sharpness", "contrast")


def names_of(records, rows):
    """What the cases are called: their photographs, or patients where a record is a pair."""
    return records.columns["patient_id" if records.paired else "image_id"][rows]


def recorded_batches(records, rows, image_size, batch_size=32):
    """Batches of the photographs of these rows; elements are (images, 0)."""
    photographs = ImageLoader(records, image_size=image_size, cache="none")
    return ordered_batches(photographs, np.zeros(len(records), np.float32), rows=rows, batch_size=batch_size)


def recorded_images(records, rows):
    """Of each row {eye: ImageInfo}, as prediction has it of the original; an absent eye is left out."""
    return [
        {eye or SINGLE: _shown(records, row, eye) for eye in records.eyes if records.present(eye)[row]} for row in rows
    ]


def _shown(records, row, eye):
    def of(name):
        return records.columns[f"{eye}/{name}" if eye else name][row]

    has_score = (f"{eye}/gradability/score" if eye else "gradability/score") in records.columns
    score = float(of("gradability/score")) if has_score else None
    reason = ""
    if score is not None and score < GRADABLE:
        reason = low_gradability_reason(records.image(row, eye), [float(of(f"gradability/{part}")) for part in _PARTS])
    return ImageInfo(str(of("image_id")), score, reason, _geometry(of, records.image_size))


def _geometry(of, size):
    numbers = {name: tuple(of(name).tolist()) for name in ("original_size", "circle", "crop", "padding")}
    width, height = numbers["original_size"]
    return Geometry(width, height, numbers["circle"], numbers["crop"], numbers["padding"], size)
