"""Is this photograph like those that the network learned from? If not, its answer is not to be relied on.

The distance to the nearest training photographs (Sun et al., ICML 2022) takes the feature neighbours along. A normal
distribution of the features (Lee et al., NeurIPS 2018) is a thousand times smaller, and goes with an export. Where
sources differ, one distribution for all spans what lies between them: each has its own, and the nearest counts.
"""

import dataclasses
import re
import statistics

import numpy as np

KEPT = 0.99  # of photographs like the calibration split's
_HANDFUL = 10
OF_ITS_OWN = 50  # photographs of a source from which on it has a distribution of its own
AXES = 64  # all 1,279 of them tell other cameras no better, and are forty times as large


@dataclasses.dataclass(frozen=True)
class FeatureDistribution:
    """Where training features lie: their mean, the axes along which they vary most, and the deviation along each.

    Beyond these axes [features, axes] they vary by `rest` in every direction (Tipping & Bishop, 1999).
    """

    mean: np.ndarray
    axes: np.ndarray
    deviations: np.ndarray
    rest: np.ndarray

    @property
    def width(self):
        """How many features it takes."""
        return len(self.mean)

    def distance(self, features):
        """In standard deviations."""
        away = np.asarray(features, np.float64) - self.mean
        along = away @ self.axes
        beyond = np.maximum(np.square(away).sum(axis=1) - np.square(along).sum(axis=1), 0)
        return np.sqrt(np.square(along / self.deviations).sum(axis=1) + beyond / np.square(self.rest))


@dataclasses.dataclass(frozen=True)
class PerSourceFeatureDistribution:
    """Of features of one network from several sources, each with a feature_distribution of its own: the nearest one counts."""

    parts: tuple[FeatureDistribution, ...]

    @property
    def width(self):
        return self.parts[0].width

    def distance(self, features):
        return np.min([feature_distribution.distance(features) for feature_distribution in self.parts], axis=0)


@dataclasses.dataclass(frozen=True)
class EnsembleFeatureDistribution:
    """Of features of several networks side by side, each with a FeatureDistribution or PerSourceFeatureDistribution: the squares of distances add up.

    Of one feature_distribution of them all the matrix would grow with the square of the networks.
    """

    parts: tuple[FeatureDistribution | PerSourceFeatureDistribution, ...]

    @property
    def width(self):
        return sum(part.width for part in self.parts)

    def distance(self, features):
        ends = np.cumsum([part.width for part in self.parts])
        split = np.split(np.asarray(features), ends[:-1], axis=1)
        return np.linalg.norm(
            [feature_distribution.distance(part) for feature_distribution, part in zip(self.parts, split, strict=True)],
            axis=0,
        )


_FIELDS = tuple(field.name for field in dataclasses.fields(FeatureDistribution))
_NAME = re.compile(rf"({'|'.join(_FIELDS)})([1-9]\d*)?(?:_([1-9]\d*))?")


def to_arrays(feature_distribution):
    """{name: float32 array}: "mean" and so on of the first network, "mean1" of the next, "mean_1" of its next source."""
    networks = (
        feature_distribution.parts
        if isinstance(feature_distribution, EnsembleFeatureDistribution)
        else [feature_distribution]
    )
    arrays = {}
    for i, network in enumerate(networks):
        for j, part in enumerate(network.parts if isinstance(network, PerSourceFeatureDistribution) else [network]):
            end = f"{i or ''}{f'_{j}' if j else ''}"
            arrays |= {f"{name}{end}": np.asarray(getattr(part, name), np.float32) for name in _FIELDS}
    return arrays


def from_arrays(arrays):
    """What `to_arrays` was given. Raises ValueError where these are no such arrays."""
    found = {}
    for name in arrays:
        match = _NAME.fullmatch(name)
        if not match:
            raise ValueError(f"it holds an array {name!r}, which is none of a gate's")
        place = int(match[2] or 0), int(match[3] or 0)
        found.setdefault(place, {})[match[1]] = np.asarray(arrays[name])
    networks = {}
    for (i, j), parts in sorted(found.items()):
        of_network = networks.setdefault(i, [])
        if len(networks) != i + 1 or len(of_network) != j:
            raise ValueError("some of its arrays are missing")
        of_network.append(_cloud(parts))
    made = tuple(_of_sources(parts) for parts in networks.values())
    if not made:
        raise ValueError("it holds no arrays")
    return made[0] if len(made) == 1 else EnsembleFeatureDistribution(made)


def _of_sources(parts):
    if len({part.width for part in parts}) > 1:
        raise ValueError("its sources have different numbers of features")
    return parts[0] if len(parts) == 1 else PerSourceFeatureDistribution(tuple(parts))


def _cloud(arrays):
    missing = [name for name in _FIELDS if name not in arrays]
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    feature_distribution = FeatureDistribution(*(_finite(name, arrays[name]) for name in _FIELDS))
    if (
        feature_distribution.mean.ndim != 1
        or feature_distribution.deviations.ndim != 1
        or feature_distribution.rest.ndim != 0
    ):
        raise ValueError("its arrays have other dimensions than a gate's")
    if feature_distribution.axes.shape != (len(feature_distribution.mean), len(feature_distribution.deviations)):
        raise ValueError(
            f"its axes are {feature_distribution.axes.shape} beside {len(feature_distribution.mean)} features and {len(feature_distribution.deviations)} deviations"
        )
    if min(feature_distribution.deviations.min(initial=1), feature_distribution.rest) <= 0:
        raise ValueError("it has deviations that are not above 0")
    return feature_distribution


def _finite(name, values):
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ValueError(f"its {name} holds what is no number")
    return values.astype(np.float64)


def fit_feature_distribution(features, sources=None, axes=AXES):
    """A FeatureDistribution, or PerSourceFeatureDistribution where `sources` [n] names several with at least OF_ITS_OWN photographs.

    Smaller sources share a feature_distribution; where all of them together are but a handful, nothing can be told of where they lie.
    """
    features = np.asarray(features, np.float64)
    parts = [features] if sources is None else _apart(features, np.asarray(sources))
    distributions = tuple(_fit_one(part, axes) for part in parts)
    return distributions[0] if len(distributions) == 1 else PerSourceFeatureDistribution(distributions)


def _apart(features, sources):
    _, codes, counts = np.unique(sources, return_inverse=True, return_counts=True)
    large = np.flatnonzero(counts >= OF_ITS_OWN)
    rest = features[~np.isin(codes, large)]
    parts = [features[codes == code] for code in large]
    return parts if parts and len(rest) < _HANDFUL else [*parts, rest]


def _fit_one(features, axes):
    """Ledoit and Wolf's covariance, also where there are fewer photographs than features, along its `axes` largest axes."""
    from sklearn.covariance import LedoitWolf  # only who fits needs it

    estimate = LedoitWolf().fit(features)
    values, vectors = np.linalg.eigh(estimate.covariance_)
    values = np.maximum(values, max(values[-1] * 1e-12, 1e-30))  # all of them are 0 where features are all alike
    kept = min(axes, len(values) - 1)
    variances = values[::-1][:kept]
    rest = values[: len(values) - kept].mean()
    return FeatureDistribution(estimate.location_, vectors[:, ::-1][:, :kept], np.sqrt(variances), np.sqrt(rest))


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
