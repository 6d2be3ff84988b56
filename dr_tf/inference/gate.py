"""Is this photograph like those that the network learned from? If not, its answer is not to be relied on.

The distance to the nearest training photographs (Sun et al., ICML 2022) takes the feature bank along. A normal
distribution of the features (Lee et al., NeurIPS 2018) is a thousand times smaller, and goes with an export.
"""

import dataclasses
import statistics

import numpy as np

KEPT = 0.99  # of photographs like the calibration split's
_HANDFUL = 10


def neighbour_distance(distances):
    """From `Bank.nearest`: the mean over the neighbours."""
    return np.asarray(distances).mean(axis=1)


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Where training features lie: their mean, and the matrix that makes them uncorrelated with variance one."""

    mean: np.ndarray
    whitening: np.ndarray

    def distance(self, features):
        return np.linalg.norm((np.asarray(features, np.float64) - self.mean) @ self.whitening, axis=1)


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
    """{name: array} of a Cloud or of Clouds."""
    parts = cloud.parts if isinstance(cloud, Clouds) else [cloud]
    means = {f"mean{i or ''}": part.mean for i, part in enumerate(parts)}
    return means | {f"whitening{i or ''}": part.whitening for i, part in enumerate(parts)}


def from_arrays(arrays):
    numbers = [i or "" for i in range(len(arrays) // 2)]
    parts = tuple(Cloud(arrays[f"mean{i}"], arrays[f"whitening{i}"]) for i in numbers)
    return parts[0] if len(parts) == 1 else Clouds(parts)


def fit_cloud(features):
    """Ledoit and Wolf's covariance: also where there are fewer photographs than features."""
    from sklearn.covariance import LedoitWolf  # only who fits needs it

    estimate = LedoitWolf().fit(np.asarray(features, np.float64))
    values, vectors = np.linalg.eigh(estimate.covariance_)
    keep = values > values[-1] * 1e-12
    return Cloud(estimate.location_, vectors[:, keep] / np.sqrt(values[keep]))


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
