"""Localization: maps against lesion masks (pointing game, energy-based pointing game, IoU, average precision).

Maps, lesion masks and retina masks have the size of the image.
"""

from __future__ import annotations

import cv2
import numpy as np

THRESHOLDS = np.round(np.arange(0.05, 1, 0.05), 2)  # of a map, for the IoU
_TOLERANCE = 0.03  # of the side: Zhang et al. (IJCV 2018) allow 15 pixels on images of about 500


def upsample(map: np.ndarray, size: int) -> np.ndarray:
    """Resize a map to [size, size] with smooth interpolation, clipped to 0 to 1."""
    return np.clip(cv2.resize(np.asarray(map, np.float32), (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)


def pointing_game(map: np.ndarray, lesion: np.ndarray, retina: np.ndarray) -> bool:
    """Return whether the maximum of the map lies on the lesion, within a tolerance (Zhang et al., IJCV 2018).

    Args:
        map: The map [size, size].
        lesion: The lesion mask, bool [size, size].
        retina: The retina mask, bool [size, size]; the map is ignored outside.
    """
    inside = np.where(retina, map, 0)
    if not inside.any():
        return False
    radius = round(_TOLERANCE * len(map))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return bool(cv2.dilate(lesion.astype(np.uint8), kernel).ravel()[inside.argmax()])


def energy_pointing_game(map: np.ndarray, lesion: np.ndarray, retina: np.ndarray) -> float:
    """Compute the share of the map's sum that lies on the lesion (Wang et al., CVPRW 2020), relative to its area.

    The share is divided by the lesion's share of the retina, so that a uniform map scores 1.

    Args:
        map: The map [size, size].
        lesion: The lesion mask, bool [size, size].
        retina: The retina mask, bool [size, size]; the map is ignored outside.
    """
    inside, lesion = np.where(retina, map, 0), lesion & retina
    if not inside.any() or not lesion.any():
        return 0.0
    return float(inside[lesion].sum() / inside.sum() * (retina.sum() / lesion.sum()))


def iou_by_threshold(map: np.ndarray, lesion: np.ndarray, retina: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of the lesion and the map cut at each of `THRESHOLDS`.

    Args:
        map: The map [size, size].
        lesion: The lesion mask, bool [size, size].
        retina: The retina mask, bool [size, size]; the map is ignored outside.

    Returns:
        IoU [thresholds].
    """
    inside, lesion = np.where(retina, map, 0), lesion & retina
    area = np.array([np.count_nonzero(inside >= t) for t in THRESHOLDS])
    intersection = np.array([np.count_nonzero(inside[lesion] >= t) for t in THRESHOLDS])
    return intersection / np.maximum(area + lesion.sum() - intersection, 1)


def average_precision(map: np.ndarray, lesion: np.ndarray, retina: np.ndarray) -> float:
    """Compute the average precision of the map's values as a classifier of the retina's pixels.

    A map that is constant or random has the lesion's share of the retina.

    Args:
        map: The map [size, size].
        lesion: The lesion mask, bool [size, size].
        retina: The retina mask, bool [size, size]; the map is ignored outside.
    """
    from sklearn.metrics import average_precision_score

    truth = lesion[retina]
    return float(average_precision_score(truth, map[retina])) if truth.any() else 0.0
