"""Grade intervals that hold the true grade with a chosen probability: split conformal prediction, contiguous.

Around the likeliest grade the interval takes in whichever neighbour is likelier, until it holds enough probability (Lu,
Angelopoulos and Pomerantz, MICCAI 2022). Enough is what calibration patients needed: a grade's score is the probability
gathered before it is taken in, and the threshold is the ceil((n + 1)(1 - alpha))-th smallest of their scores, one drawn
photograph a patient. Over new patients like them the interval then misses at most alpha of the time, where the photographs
are known to be theirs and the same network answers; else the same threshold is set, and nothing is promised.
"""

import dataclasses
import math

import numpy as np

WHOLE_SCALE = 2.0  # more than all probability, so that every class is taken in; unlike infinity it can stand in JSON


def scores(probabilities):
    """[n, classes]: the probability gathered before each class is taken in; 0 for the likeliest."""
    rows, k = np.arange(len(probabilities)), probabilities.shape[1]
    padded = np.pad(probabilities, ((0, 0), (1, 1)), constant_values=-1.0)  # beyond the ends nothing is likelier
    low = high = probabilities.argmax(axis=1) + 1
    gathered, taken = padded[rows, low], np.zeros((len(rows), k + 2))
    for _ in range(k - 1):
        down = padded[rows, low - 1] > padded[rows, high + 1]
        low, high = low - down, high + ~down
        new = np.where(down, low, high)
        taken[rows, new] = gathered
        gathered = gathered + padded[rows, new]
    return taken[:, 1:-1]


@dataclasses.dataclass(frozen=True)
class Conformal:
    """`thresholds`: one for all classes, or one for each. `calibration_patients`: calibration patients, of each class.

    `guaranteed` tells of each class whether its own coverage is guaranteed; overall coverage is unless it is `no_guarantee`,
    which says why nothing can be.
    """

    alpha: float
    per_class: bool
    thresholds: tuple[float, ...]
    calibration_patients: tuple[int, ...]
    no_guarantee: str = ""

    def __post_init__(self):
        for name in ("thresholds", "calibration_patients"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def needed(self):
        """Patients of a class below which no finite threshold covers 1 - alpha of it."""
        return math.ceil(1 / self.alpha - 1e-9) - 1

    @property
    def enough(self):
        """Of each class whether its patients are enough for a threshold of its own."""
        return tuple(count >= self.needed for count in self.calibration_patients)

    @property
    def guaranteed(self):
        return tuple(self.per_class and enough and not self.no_guarantee for enough in self.enough)

    def intervals(self, probabilities):
        """[n, 2]: the lowest and the highest class of each interval."""
        inside = scores(probabilities) <= np.asarray(self.thresholds)
        inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
        low = inside.argmax(axis=1)
        high = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
        return np.stack([low, high], axis=1)

    def to_dict(self):
        """As metrics.json holds it."""
        return dataclasses.asdict(self) | {"guaranteed": list(self.guaranteed)}


def combine_folds(conformals):
    """A threshold a fold; of the patients behind them the fewest, of the reasons to promise nothing the longest."""
    if None in conformals:
        return None
    counts = [min(each) for each in zip(*(conformal.calibration_patients for conformal in conformals), strict=True)]
    thresholds = [threshold for conformal in conformals for threshold in conformal.thresholds]
    no_guarantee = max((conformal.no_guarantee for conformal in conformals), key=len)
    return dataclasses.replace(conformals[0], thresholds=thresholds, calibration_patients=counts, no_guarantee=no_guarantee).to_dict()


def fit_conformal(probabilities, truth, patients, *, alpha=0.1, per_class=False, no_guarantee="", seed=0):
    """From calibration photographs whose class is known. `per_class` asks for coverage of each class by itself; a class
    with too few patients then keeps the common threshold, and is not `guaranteed`. `no_guarantee`: why nothing is, if so."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    known, classes = truth >= 0, probabilities.shape[1]
    own = scores(probabilities[known])[np.arange(known.sum()), truth[known]]
    common = _threshold(own[_one_each(patients[known], seed)], alpha)
    thresholds, counts = [], []
    for label in range(classes):
        rows = truth[known] == label
        one_each = own[rows][_one_each(patients[known][rows], seed)]
        counts.append(len(one_each))
        thresholds.append(_threshold(one_each, alpha))
    conformal = Conformal(alpha, per_class, (common,), tuple(counts), no_guarantee)
    if not per_class:
        return conformal
    mixed = (own if enough else common for own, enough in zip(thresholds, conformal.enough, strict=True))
    return dataclasses.replace(conformal, thresholds=tuple(mixed))


def _threshold(values, alpha):
    """The whole scale where there are too few."""
    rank = math.ceil((len(values) + 1) * (1 - alpha) - 1e-9)
    return float(np.sort(values)[rank - 1]) if rank <= len(values) else WHOLE_SCALE


def _one_each(patients, seed):
    """The rows of one photograph a patient, drawn: photographs of one patient are not exchangeable with another's."""
    order = np.random.default_rng(seed).permutation(len(patients))
    return order[np.unique(np.asarray(patients)[order], return_index=True)[1]]
