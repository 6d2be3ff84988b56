"""Split conformal prediction of contiguous grade intervals, which contain the true grade with a chosen probability.

The interval starts at the most probable grade and grows by the more probable of its two neighbours until it contains
enough probability (Lu, Angelopoulos and Pomerantz, MICCAI 2022). The conformity score of a grade is the probability
gathered before the grade is included. The threshold is the ceil((n + 1)(1 - alpha))-th smallest score of the true
grades of calibration patients, with one random image per patient. For new patients who are exchangeable with them the
interval then misses the true grade with a probability of at most alpha. That guarantee needs known patients and the
same network; without these the same threshold is used, and nothing is guaranteed.
"""

import dataclasses
import math
from typing import Any

import numpy as np

ALPHA = 0.1  # the tolerated probability that a range of grades misses the true grade
ALL_CLASSES = 2.0  # a threshold above any probability includes every class; unlike infinity it can be written to JSON


def conformity_scores(probabilities: np.ndarray) -> np.ndarray:
    """Compute the probability gathered before each class is included [n, classes]; 0 for the most probable class."""
    rows, k = np.arange(len(probabilities)), probabilities.shape[1]
    padded = np.pad(probabilities, ((0, 0), (1, 1)), constant_values=-1.0)  # the padding is never more probable
    low = high = probabilities.argmax(axis=1) + 1
    gathered, scores = padded[rows, low], np.zeros((len(rows), k + 2))
    for _ in range(k - 1):
        down = padded[rows, low - 1] > padded[rows, high + 1]
        low, high = low - down, high + ~down
        new = np.where(down, low, high)
        scores[rows, new] = gathered
        gathered = gathered + padded[rows, new]
    return scores[:, 1:-1]


@dataclasses.dataclass(frozen=True)
class Conformal:
    """A fitted conformal predictor.

    Attributes:
        alpha: the tolerated probability that the interval misses the true class.
        per_class: whether each class has a threshold of its own, so that each class is covered.
        thresholds: one for all classes, or one for each; of folds, one for each fold.
        calibration_patients: number of calibration patients of each class.
        no_guarantee: the reason why the coverage is not guaranteed, or "".
    """

    alpha: float
    per_class: bool
    thresholds: tuple[float, ...]
    calibration_patients: tuple[int, ...]
    no_guarantee: str = ""

    def __post_init__(self) -> None:
        for name in ("thresholds", "calibration_patients"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def required_patients(self) -> int:
        """The fewest patients of a class for which a finite threshold covers 1 - alpha of the class."""
        return math.ceil(1 / self.alpha - 1e-9) - 1

    @property
    def has_enough_patients(self) -> tuple[bool, ...]:
        """Whether each class has enough calibration patients for a threshold of its own."""
        return tuple(count >= self.required_patients for count in self.calibration_patients)

    @property
    def guaranteed(self) -> tuple[bool, ...]:
        """Whether the coverage of each class by itself is guaranteed."""
        return tuple(self.per_class and enough and not self.no_guarantee for enough in self.has_enough_patients)

    def intervals(self, probabilities: np.ndarray) -> np.ndarray:
        """Compute the lowest and the highest class of each interval [n, 2]."""
        inside = conformity_scores(probabilities) <= np.asarray(self.thresholds)
        inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
        low = inside.argmax(axis=1)
        high = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
        return np.stack([low, high], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes and `guaranteed`, as metrics.json contains them."""
        return dataclasses.asdict(self) | {"guaranteed": list(self.guaranteed)}


def fit_conformal(
    probabilities: np.ndarray,
    truth: np.ndarray,
    patients: np.ndarray,
    *,
    alpha: float = ALPHA,
    per_class: bool = False,
    no_guarantee: str = "",
    seed: int = 0,
) -> Conformal:
    """Fit the conformal thresholds on calibration images.

    Args:
        probabilities: [n, classes].
        truth: [n], the true class; negative values (unknown) are left out.
        patients: [n], the patient of each image.
        alpha: the tolerated probability that an interval misses the true class.
        per_class: whether to cover each class by itself. A class with too few patients keeps the common threshold and
            is not `guaranteed`.
        no_guarantee: the reason why the coverage is not guaranteed, or "".
        seed: draws the one image of each patient.

    Returns:
        The fitted Conformal.

    Raises:
        ValueError: if alpha is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    known, classes = truth >= 0, probabilities.shape[1]
    scores = conformity_scores(probabilities[known])[np.arange(known.sum()), truth[known]]
    common = _threshold(scores[_one_image_per_patient(patients[known], seed)], alpha)
    thresholds, counts = [], []
    for label in range(classes):
        rows = truth[known] == label
        of_class = scores[rows][_one_image_per_patient(patients[known][rows], seed)]
        counts.append(len(of_class))
        thresholds.append(_threshold(of_class, alpha))
    conformal = Conformal(alpha, per_class, (common,), tuple(counts), no_guarantee)
    if not per_class:
        return conformal
    mixed = (own if enough else common for own, enough in zip(thresholds, conformal.has_enough_patients, strict=True))
    return dataclasses.replace(conformal, thresholds=tuple(mixed))


def _threshold(scores: np.ndarray, alpha: float) -> float:
    """Return the conformal quantile; `ALL_CLASSES` where there are too few scores."""
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else ALL_CLASSES


def _one_image_per_patient(patients: np.ndarray, seed: int) -> np.ndarray:
    """Draw the row of one image of each patient: several images of one patient are not exchangeable with others."""
    order = np.random.default_rng(seed).permutation(len(patients))
    return order[np.unique(np.asarray(patients)[order], return_index=True)[1]]
