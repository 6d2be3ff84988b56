"""Register two views and measure whether they are copies of one image or two images of the same eye.

Registration aligns one view with the other by an affine map. Copies then differ by a tone curve only (brighter, darker,
clipped), whatever JPEG and rescaling did to fine detail. Two images of the same eye share the vessels under different
illumination. Cameras leave reflections that are the same in every patient, and vessels are finer than those.
"""

import contextlib
import dataclasses

import cv2
import numpy as np

from tfrecords_builder.descriptors import VIEW_SIDE, normalize_view

# The thresholds were chosen on IDRiD's training split and ODIR's patients of even numbers; benchmarks/audit.py measures
# the audit on the others.

# Copies: the residual may be larger where more detail is shared (in grey levels). The haze of one camera on two
# different eyes begins 0.3 above this limit.
_MAXIMUM_RESIDUAL, _RESIDUAL_PER_DETAIL = 3.0, 2.8
# Copies: rotation or shear in radians. Nobody holds an eye as still as a copy is.
_MAXIMUM_ROTATION = 0.03
# The vessels correlate clearly, so the rotation is known to a third of a degree, and the limit is stricter.
_CLEAR_VESSELS, _MAXIMUM_ROTATION_WHEN_CLEAR = 0.8, 0.012
_SAME_EYE_VESSELS = 0.55  # correlation of vessels; a shared reflection reaches 0.51

_HALF = VIEW_SIDE // 2
_MAXIMUM_SHIFT = 5  # pixels of the halved view, in the first registration by translation
_HALF_NEIGHBOURHOOD = 2.25  # pixels
# Pairs are compared in full if the halved views correlate at least so much, ...
_PROMISING = 0.55
# ... or at least so much while they differ by less than these grey levels, as hazy images do.
_PROMISING_IF_CLOSE, _CLOSE = 0.25, 6.0
_MINIMUM_OVERLAP = 0.15 * VIEW_SIDE * VIEW_SIDE  # pixels that are visible in both views
_BLUR = 1.0  # pixels: JPEG at quality 30 keeps little that is finer
_DETAIL_NEIGHBOURHOOD = 2.0  # pixels
_VESSEL_NEIGHBOURHOOD = 1.8  # pixels: includes vessels, excludes reflections


@dataclasses.dataclass(frozen=True)
class ViewSimilarity:
    """How similar two registered views are.

    Attributes:
        residual: Standard deviation of the difference that remains after a tone curve, in grey levels of 255.
        detail: Correlation of everything finer than shading, after a blur that removes JPEG noise; -1 to 1.
        vessels: Correlation of the finest structures; -1 to 1.
        rotation: Rotation or shear of the registration, in radians.
    """

    residual: float
    detail: float
    vessels: float
    rotation: float

    @property
    def kind(self) -> str:
        """Return "copy", "same_eye", or "" for different eyes."""
        is_clear = self.vessels >= _CLEAR_VESSELS
        is_still = self.rotation <= (_MAXIMUM_ROTATION_WHEN_CLEAR if is_clear else _MAXIMUM_ROTATION)
        if is_still and self.residual <= _MAXIMUM_RESIDUAL + _RESIDUAL_PER_DETAIL * self.detail:
            return "copy"
        return "same_eye" if self.vessels >= _SAME_EYE_VESSELS else ""


_DISSIMILAR = ViewSimilarity(255.0, 0.0, 0.0, 0.0)


def compare_views(a: np.ndarray, b: np.ndarray) -> ViewSimilarity:
    """Register view `b` to view `a`, and measure how similar they are.

    The result is the one of the affine or the translational registration, whichever aligns the vessels better. The
    translation alone would measure no rotation between two images of the same eye (IDRiD's 013 and 397).
    """
    best = _DISSIMILAR
    for warp, should_refine in _initial_warps(a, b):
        best = max(best, _similarity(a, b, warp, should_refine), key=lambda similarity: similarity.vessels)
        if best.kind == "copy":
            break
    return best


def _similarity(a, b, warp, should_refine):
    (plain_a, visible_a), (plain_b, visible_b) = normalize_view(a), normalize_view(b)
    try:
        if should_refine:
            soft_a, soft_b = (cv2.GaussianBlur(plain, (0, 0), 1.2) for plain in (plain_a, plain_b))
            warp = _ecc(soft_a, soft_b, visible_b, warp, 15)
    except cv2.error:  # it does not converge
        return _DISSIMILAR
    overlap = cv2.erode(visible_a * (_warped(visible_b, warp) > 0.99), np.ones((3, 3), np.uint8)) > 0
    if overlap.sum() < _MINIMUM_OVERLAP:
        return _DISSIMILAR
    views = ((a, visible_a), (b, visible_b))
    soft_a, soft_b = (_blurred(view, visible) for view, visible in views)
    detail_a, detail_b = (
        normalize_view(soft, _DETAIL_NEIGHBOURHOOD, visible)[0]
        for soft, visible in ((soft_a, visible_a), (soft_b, visible_b))
    )
    vessels_a, vessels_b = (normalize_view(view, _VESSEL_NEIGHBOURHOOD)[0] for view in (a, b))
    return ViewSimilarity(
        residual=_residual(soft_a[overlap], _warped(soft_b, warp)[overlap]),
        detail=_correlation(detail_a[overlap], _warped(detail_b, warp)[overlap]),
        vessels=_correlation(vessels_a[overlap], _warped(vessels_b, warp)[overlap]),
        rotation=float(max(abs(warp[0, 1]), abs(warp[1, 0]))),
    )


def _initial_warps(a, b):
    """Yield (affine map of b to a, whether to refine it), found on halved views; nothing if the views differ too much.

    The last one is a translation without refinement. A hazy image has too little detail for the affine map, which then
    drifts, while a copy is already aligned by the translation.
    """
    half_a, half_b = _halved(a), _halved(b)
    (a, visible_a), (b, visible_b) = (normalize_view(half, _HALF_NEIGHBOURHOOD) for half in (half_a, half_b))
    inner_b = b[_MAXIMUM_SHIFT:-_MAXIMUM_SHIFT, _MAXIMUM_SHIFT:-_MAXIMUM_SHIFT]
    x, y = cv2.minMaxLoc(cv2.matchTemplate(a, inner_b, cv2.TM_CCORR))[3]
    translation = np.array([[1, 0, _MAXIMUM_SHIFT - x], [0, 1, _MAXIMUM_SHIFT - y]], np.float32)
    warps = []
    with contextlib.suppress(cv2.error):  # it does not converge
        warps.append((_ecc(a, b, visible_b, translation.copy(), 25), True))
    for warp, should_refine in [*warps, (translation, False)]:
        overlap = (visible_a > 0) & (_warped(visible_b, warp) > 0.9)
        if overlap.sum() < _MINIMUM_OVERLAP / 4:
            continue
        correlation = _correlation(a[overlap], _warped(b, warp)[overlap])
        if correlation >= _PROMISING or (
            correlation >= _PROMISING_IF_CLOSE and _residual(half_a[overlap], _warped(half_b, warp)[overlap]) < _CLOSE
        ):
            # Pixel i is centred on i + 0.5.
            shift = 2 * warp[:, 2] + 0.5 * (1 - warp[:, :2].sum(1))
            yield np.column_stack([warp[:, :2], shift]).astype(np.float32), should_refine


def _halved(view):
    """The view at half its size, black where any of the four pixels is not visible."""
    half = cv2.resize(view, (_HALF, _HALF), interpolation=cv2.INTER_AREA)
    half[cv2.erode(view, np.ones((2, 2), np.uint8), anchor=(0, 0))[::2, ::2] == 0] = 0
    return half


def _ecc(a, b, visible, warp, steps):
    """Refine an affine map by the enhanced correlation coefficient (Evangelidis and Psarakis, PAMI 2008)."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, steps, 1e-3)
    return cv2.findTransformECC(a, b, warp, cv2.MOTION_AFFINE, stop, (visible > 0.5).astype(np.uint8), 1)[1]


def _warped(image, warp):
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, warp, image.shape[1::-1], flags=flags)


def _blurred(view, visible):
    return cv2.GaussianBlur(view * visible, (0, 0), _BLUR) / (cv2.GaussianBlur(visible, (0, 0), _BLUR) + 1e-4)


def _residual(a, b):
    """What remains of the difference after a tone curve, in the better direction.

    An image cannot be predicted where the other one is clipped, so both directions are tried.
    """
    return min(_residual_of(a, b), _residual_of(b, a))


def _residual_of(a, b):
    """The standard deviation of `a` around a cubic polynomial of `b`."""
    a, b = a.astype(np.float64), (b.astype(np.float64) - b.mean()) / max(float(b.std()), 1e-6)
    powers = np.stack([np.ones_like(b), b, b * b, b * b * b], 1)
    weights = np.linalg.lstsq(powers.T @ powers, powers.T @ a, rcond=None)[0]
    return float((a - powers @ weights).std())


def _correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt(max((a @ a) * (b @ b), 1e-9)))
