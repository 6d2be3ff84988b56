"""Is this photograph like those that the network learned from? If not, its answer is not to be relied on.

The distance to the nearest training photographs (Sun et al., ICML 2022) takes the feature bank along. A normal
distribution of the features (Lee et al., NeurIPS 2018) is a thousand times smaller, and goes with an export.
"""

import dataclasses
import statistics

import numpy as np

KEPT = 0.99  # of photographs like the calibration split's
_HANDFUL = 10
AXES = 64  # all 1,279 of them tell other cameras no better, and are forty times as large


def neighbour_distance(distances):
    """From `Bank.nearest`: the mean over the neighbours."""
    return np.asarray(distances).mean(axis=1)


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Where training features lie: their mean, the axes along which they vary most, and the deviation along each.

    Beyond these axes [features, axes] they vary by `rest` in every direction (Tipping & Bishop, 1999).
    """

    mean: np.ndarray
    axes: np.ndarray
    deviations: np.ndarray
    rest: np.ndarray

    def distance(self, features):
        """In standard deviations."""
        away = np.asarray(features, np.float64) - self.mean
        along = away @ self.axes
        beyond = np.maximum(np.square(away).sum(axis=1) - np.square(along).sum(axis=1), 0)
        return np.sqrt(np.square(along / self.deviations).sum(axis=1) + beyond / np.square(self.rest))


@dataclasses.dataclass(frozen=True)
class Clouds:
    """Of features of several networks side by side, each with a cloud of its own: the squares of distances add up.

    Of one cloud of them all the matrix would grow with the square of the networks.
    """

    parts: tuple[Cloud, ...]

    def distance(self, features):
        ends = np.cumsum([len(part.mean) for part in self.parts])
        split = np.split(np.asarray(features), ends[:-1], axis=1)
        return np.linalg.norm([cloud.distance(part) for cloud, part in zip(self.parts, split, strict=True)], axis=0)


def to_arrays(cloud):
    """{name: float32 array} of a Cloud or of Clouds."""
    parts = cloud.parts if isinstance(cloud, Clouds) else [cloud]
    arrays = {f"{name}{i or ''}": values for i, part in enumerate(parts) for name, values in vars(part).items()}
    return {name: np.asarray(values, np.float32) for name, values in arrays.items()}


def from_arrays(arrays):
    names = [field.name for field in dataclasses.fields(Cloud)]
    numbers = [i or "" for i in range(len(arrays) // len(names))]
    parts = tuple(Cloud(*(np.asarray(arrays[f"{name}{i}"], np.float64) for name in names)) for i in numbers)
    return parts[0] if len(parts) == 1 else Clouds(parts)


def fit_cloud(features, axes=AXES):
    """Ledoit and Wolf's covariance, also where there are fewer photographs than features, along its `axes` largest axes."""
    from sklearn.covariance import LedoitWolf  # only who fits needs it

    estimate = LedoitWolf().fit(np.asarray(features, np.float64))
    values, vectors = np.linalg.eigh(estimate.covariance_)
    values = np.maximum(values, values[-1] * 1e-12)
    kept = min(axes, len(values) - 1)
    variances = values[::-1][:kept]
    rest = values[: len(values) - kept].mean()
    return Cloud(estimate.location_, vectors[:, ::-1][:, :kept], np.sqrt(variances), np.sqrt(rest))


def distance_limit(distances, kept=KEPT):
    """The distance within which `kept` of photographs like these lie, as split-conformal prediction has it.

    That takes kept / (1 - kept) photographs. Of fewer, the farthest is a matter of luck and lets other cameras through:
    log-normal distances with the same mean and deviation of the logarithm stand in; of a handful, the farthest all the same.
    """
    distances = np.sort(np.asarray(distances, np.float64))
    if not len(distances):
        return None
    rank = int(np.ceil(kept * (len(distances) + 1)))
    if rank <= len(distances) or len(distances) < _HANDFUL:
        return float(distances[min(rank, len(distances)) - 1])
    logarithms = np.log(np.maximum(distances, 1e-12))
    return float(np.exp(logarithms.mean() + statistics.NormalDist().inv_cdf(kept) * logarithms.std(ddof=1)))
