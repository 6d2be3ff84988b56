"""Examples of a record set as cases, with the image information that prediction extracts from original images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.data.records import Records
from dr_tf.fundus.gradability import GRADABLE, low_gradability_reason
from dr_tf.inference.case import SINGLE
from dr_tf.inference.decision import ImageInfo

_GRADABILITY_PARTS = ("exposure", "field", "sharpness", "contrast")


def case_names(records: Records, rows: np.ndarray) -> np.ndarray:
    """Return the name of each case: the image, or the patient where an example is a pair of eyes."""
    return records.columns["patient_id" if records.paired else "image_id"][rows]


def image_infos(records: Records, rows: Sequence[int] | np.ndarray) -> list[dict[str, ImageInfo]]:
    """Return {eye: ImageInfo} of each row, equal to what prediction returns for the original; without absent eyes."""
    return [
        {eye or SINGLE: _image_info(records, row, eye) for eye in records.eyes if records.present(eye)[row]}
        for row in rows
    ]


def encoded_images(records: Records, ids: ArrayLike, rows: ArrayLike) -> Callable[[str], bytes]:
    """Return a function of an id that returns the JPEG stored in its row; of a pair the left eye's."""
    row_of = dict(zip(np.asarray(ids).tolist(), np.asarray(rows).tolist(), strict=True))
    return lambda name: records.encoded_image(row_of[name], "left" if records.paired else None)


def _image_info(records: Records, row: int, eye: str | None) -> ImageInfo:
    def field(name: str) -> Any:
        return records.columns[f"{eye}/{name}" if eye else name][row]

    has_score = (f"{eye}/gradability/score" if eye else "gradability/score") in records.columns
    score = float(field("gradability/score")) if has_score else None
    reason = ""
    if score is not None and score < GRADABLE:
        parts = [float(field(f"gradability/{part}")) for part in _GRADABILITY_PARTS]
        reason = low_gradability_reason(records.image(row, eye), parts)
    return ImageInfo(str(field("image_id")), score, reason, records.geometry(row, eye))
