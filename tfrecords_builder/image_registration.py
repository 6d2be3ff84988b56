"""Lay one view on another and say whether they are the same photograph, or the same eye.

A copy is the same light on the same pixels: laid on each other, and one tone curve later (brighter, darker, clipped),
hardly any difference is left, whatever JPEG and rescaling did to fine detail. A second photograph of the eye has the
same vessels in other light. Cameras leave reflections that are the same in every patient; vessels are finer than those.
"""

import contextlib
import dataclasses

import cv2
import numpy as np

from tfrecords_builder.descriptors import SIDE, normalized

# Chosen on IDRiD's training photographs and ODIR's patients of even numbers (benchmarks/audit.py measures the others).
# Grey levels: where more detail is shared, more may be left over. A camera's haze on other eyes begins 0.3 above.
_LEFT_OVER, _PER_DETAIL = 3.0, 2.8
_SAME_EYE = 0.55  # correlation of vessels; a shared reflection reaches 0.51
_CLEAR = 0.8  # correlation of vessels from which the turn is known to a third of a degree
_TURN, _CLEAR_TURN = 0.03, 0.012  # radians: nobody holds an eye as still as a copy does
_HALF = SIDE // 2
_REACH = 5  # pixels of the halved view that a first, straight shift may be
_HALF_NEIGHBOURHOOD = 2.25  # pixels
_HOPELESS = 0.55  # correlation of halved views below which nothing finer is looked at
_HAZY, _CLOSE = 0.25, 6.0  # ... or below this, where they do not differ by less than these grey levels: haze
_LEAST = 0.15 * SIDE * SIDE  # pixels that both must show
_SOFT = 1.0  # pixels: JPEG at quality 30 shows less beyond that
_DETAIL = 2.0  # pixels
_VESSELS = 1.8  # pixels: vessels, not reflections


@dataclasses.dataclass(frozen=True)
class Likeness:
    difference: float  # grey levels (standard deviation) that are left, of 255
    detail: float  # correlation of what is finer than shading, JPEG's noise taken off; -1 to 1
    vessels: float  # correlation of the finest that a view shows
    turned: float  # radians by which the eye, not the camera's border, is turned or sheared

    @property
    def kind(self):
        still = self.turned <= (_CLEAR_TURN if self.vessels >= _CLEAR else _TURN)
        if still and self.difference <= _LEFT_OVER + _PER_DETAIL * self.detail:
            return "copy"
        return "same_eye" if self.vessels >= _SAME_EYE else ""


NOTHING = Likeness(255.0, 0.0, 0.0, 0.0)


def compare(a, b):
    """The Likeness of two views, laid on each other as exactly as possible, or straight where the vessels say so.

    The straight map alone says of a second photograph of an eye that it is not turned: IDRiD's 013 and 397.
    """
    found = NOTHING
    for warp, refine in _rough_maps(a, b):
        found = max(found, _likeness(a, b, warp, refine), key=lambda one: one.vessels)
        if found.kind == "copy":
            break
    return found


def _likeness(a, b, warp, refine):
    (plain_a, seen_a), (plain_b, seen_b) = normalized(a), normalized(b)
    try:
        if refine:
            soft_a, soft_b = (cv2.GaussianBlur(plain, (0, 0), 1.2) for plain in (plain_a, plain_b))
            warp = _ecc(soft_a, soft_b, seen_b, warp, 15)
    except cv2.error:  # it does not converge
        return NOTHING
    both = cv2.erode(seen_a * (_laid(seen_b, warp) > 0.99), np.ones((3, 3), np.uint8)) > 0
    if both.sum() < _LEAST:
        return NOTHING
    soft_a, soft_b = (_soft(view, seen) for view, seen in ((a, seen_a), (b, seen_b)))
    detail_a, detail_b = (normalized(p, _DETAIL, seen)[0] for p, seen in ((soft_a, seen_a), (soft_b, seen_b)))
    fine_a, fine_b = normalized(a, _VESSELS)[0], normalized(b, _VESSELS)[0]
    return Likeness(
        difference=_difference(soft_a[both], _laid(soft_b, warp)[both]),
        detail=_correlation(detail_a[both], _laid(detail_b, warp)[both]),
        vessels=_correlation(fine_a[both], _laid(fine_b, warp)[both]),
        turned=float(max(abs(warp[0, 1]), abs(warp[1, 0]))),
    )


def _rough_maps(a, b):
    """Affine maps that lay b on a, found on halved views, and whether to refine them; none where too little is common.

    A hazy photograph gives the exact map nothing to hold on to, and it drifts: a copy lies right with a straight shift.
    """
    half_a, half_b = _halved(a), _halved(b)
    (a, seen_a), (b, seen_b) = (normalized(half, _HALF_NEIGHBOURHOOD) for half in (half_a, half_b))
    x, y = cv2.minMaxLoc(cv2.matchTemplate(a, b[_REACH:-_REACH, _REACH:-_REACH], cv2.TM_CCORR))[3]
    straight = np.array([[1, 0, _REACH - x], [0, 1, _REACH - y]], np.float32)
    maps = []
    with contextlib.suppress(cv2.error):  # it does not converge
        maps.append((_ecc(a, b, seen_b, straight.copy(), 25), True))
    for warp, refine in [*maps, (straight, False)]:
        both = (seen_a > 0) & (_laid(seen_b, warp) > 0.9)
        if both.sum() < _LEAST / 4:
            continue
        common = _correlation(a[both], _laid(b, warp)[both])
        if common >= _HOPELESS or (common >= _HAZY and _difference(half_a[both], _laid(half_b, warp)[both]) < _CLOSE):
            # Pixel i is centred on i + 0.5.
            shift = 2 * warp[:, 2] + 0.5 * (1 - warp[:, :2].sum(1))
            yield np.column_stack([warp[:, :2], shift]).astype(np.float32), refine


def _halved(view):
    """Black where any of the four pixels is not seen."""
    half = cv2.resize(view, (_HALF, _HALF), interpolation=cv2.INTER_AREA)
    half[cv2.erode(view, np.ones((2, 2), np.uint8), anchor=(0, 0))[::2, ::2] == 0] = 0
    return half


def _ecc(a, b, seen, warp, steps):
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, steps, 1e-3)
    return cv2.findTransformECC(a, b, warp, cv2.MOTION_AFFINE, stop, (seen > 0.5).astype(np.uint8), 1)[1]


def _laid(picture, warp):
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, warp, picture.shape[1::-1], flags=flags)


def _soft(view, seen):
    return cv2.GaussianBlur(view * seen, (0, 0), _SOFT) / (cv2.GaussianBlur(seen, (0, 0), _SOFT) + 1e-4)


def _difference(a, b):
    """What one tone curve leaves, the less of both ways: what one of them clipped, the other cannot be made from."""
    return min(_left_over(a, b), _left_over(b, a))


def _left_over(a, b):
    a, b = a.astype(np.float64), (b.astype(np.float64) - b.mean()) / max(float(b.std()), 1e-6)
    powers = np.stack([np.ones_like(b), b, b * b, b * b * b], 1)
    weights = np.linalg.lstsq(powers.T @ powers, powers.T @ a, rcond=None)[0]
    return float((a - powers @ weights).std())


def _correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt(max((a @ a) * (b @ b), 1e-9)))
