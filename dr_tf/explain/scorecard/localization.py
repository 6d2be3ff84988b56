"""Maps against lesion masks."""

import cv2
import numpy as np

THRESHOLDS = np.round(np.arange(0.05, 1, 0.05), 2)
_NEAR = 0.03  # of the side: Zhang et al. (IJCV 2018) forgive 15 pixels of photographs of some 500


def enlarged(map, size):
    """A map at the size of the photograph, smooth between its places and not over 1."""
    return np.clip(cv2.resize(np.asarray(map, np.float32), (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)


def pointing(map, lesion, field):
    """Whether the map's strongest place in the retina lies on the lesion, or as good as."""
    inside = np.where(field, map, 0)
    if not inside.any():
        return False
    radius = round(_NEAR * len(map))
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return bool(cv2.dilate(lesion.astype(np.uint8), near).ravel()[inside.argmax()])


def energy(map, lesion, field):
    """The share of the map that lies on the lesion, by the lesion's share of the retina: 1 for a map that knows nothing."""
    inside, lesion = np.where(field, map, 0), lesion & field
    if not inside.any() or not lesion.any():
        return 0.0
    return float(inside[lesion].sum() / inside.sum() * (field.sum() / lesion.sum()))


def overlaps(map, lesion, field):
    """Intersection over union with what of the map reaches each of THRESHOLDS."""
    inside, lesion = np.where(field, map, 0), lesion & field
    # Counted from above: how many places reach a threshold, and how many of them are of the lesion.
    reached = np.array([np.count_nonzero(inside >= t) for t in THRESHOLDS])
    both = np.array([np.count_nonzero(inside[lesion] >= t) for t in THRESHOLDS])
    return both / np.maximum(reached + lesion.sum() - both, 1)
