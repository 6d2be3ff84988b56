"""Out-of-distribution gate: the distance of a case's features from the training features, and its limit.

The distance is a Mahalanobis distance from a normal distribution of the features (Lee et al., NeurIPS 2018). The
distance to the nearest training images (Sun et al., ICML 2022) would need the features of all training images. A
distribution is a thousand times smaller and goes with an export. With several sources, a single distribution would also
cover the space between them. Therefore each source has its own distribution, and the distance is that of the nearest
one.

A photograph of another camera cannot be mended by a retake. With several sources the gate therefore has two limits: the
distances of the known sources, beyond which a case gets a warning, and those of sources that were left out, beyond which it
has to be retaken.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

COVERAGE = 0.99  # share of images like those of the calibration split that pass the gate
_MIN_SAMPLE = 10  # with fewer, no distribution is fitted
MIN_SOURCE_SIZE = 50  # images from which on a source has its own distribution
MAX_AXES = 64  # all 1,279 axes detect other cameras no better and take forty times the space


@dataclasses.dataclass(frozen=True)
class FeatureDistribution:
    """A normal distribution of training features as probabilistic PCA (Tipping & Bishop 1999).

    Attributes:
        mean: [features].
        axes: the directions of the largest variances [features, axes].
        deviations: the standard deviation along each of these axes [axes].
        rest: the standard deviation in every other direction, a scalar array.
    """

    mean: np.ndarray
    axes: np.ndarray
    deviations: np.ndarray
    rest: np.ndarray

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.mean)

    def distance(self, features: ArrayLike) -> np.ndarray:
        """Compute the Mahalanobis distance, in standard deviations [n], of features [n, width]."""
        centred = np.asarray(features, np.float64) - self.mean
        along = centred @ self.axes
        residual = np.maximum(np.square(centred).sum(axis=1) - np.square(along).sum(axis=1), 0)
        return np.sqrt(np.square(along / self.deviations).sum(axis=1) + residual / np.square(self.rest))


@dataclasses.dataclass(frozen=True)
class PerSourceFeatureDistribution:
    """The distributions of several sources' features, all of one network. The distance is that of the nearest one.

    Attributes:
        parts: one distribution for each source.
    """

    parts: tuple[FeatureDistribution, ...]

    @property
    def width(self) -> int:
        """The number of features."""
        return self.parts[0].width

    def distance(self, features: ArrayLike) -> np.ndarray:
        """Compute the distance from the nearest distribution [n], of features [n, width]."""
        return np.min([part.distance(features) for part in self.parts], axis=0)


@dataclasses.dataclass(frozen=True)
class EnsembleFeatureDistribution:
    """The distributions of an ensemble's features: those of its members side by side, whose squared distances add up.

    One joint distribution would have a covariance matrix that grows with the square of the number of members.

    Attributes:
        parts: one distribution for each member.
    """

    parts: tuple[FeatureDistribution | PerSourceFeatureDistribution, ...]

    @property
    def width(self) -> int:
        """The number of features of all members together."""
        return sum(part.width for part in self.parts)

    def distance(self, features: ArrayLike) -> np.ndarray:
        """Compute the root of the sum of the members' squared distances [n], of features [n, width]."""
        ends = np.cumsum([part.width for part in self.parts])
        by_member = np.split(np.asarray(features), ends[:-1], axis=1)
        return np.linalg.norm(
            [part.distance(own_features) for part, own_features in zip(self.parts, by_member, strict=True)], axis=0
        )


AnyFeatureDistribution = FeatureDistribution | PerSourceFeatureDistribution | EnsembleFeatureDistribution

_FIELDS = tuple(field.name for field in dataclasses.fields(FeatureDistribution))
_ARRAY_NAME = re.compile(rf"({'|'.join(_FIELDS)})([1-9]\d*)?(?:_([1-9]\d*))?")


def to_arrays(distribution: AnyFeatureDistribution) -> dict[str, np.ndarray]:
    """Convert a distribution to named float32 arrays for a file.

    Returns:
        {name: array}. "mean" is that of the first member, "mean1" of the second; "mean_1" is that of the first member's
        second source. The other fields are named alike.
    """
    members = distribution.parts if isinstance(distribution, EnsembleFeatureDistribution) else [distribution]
    arrays: dict[str, np.ndarray] = {}
    for i, member in enumerate(members):
        for j, part in enumerate(member.parts if isinstance(member, PerSourceFeatureDistribution) else [member]):
            suffix = f"{i or ''}{f'_{j}' if j else ''}"
            arrays |= {f"{name}{suffix}": np.asarray(getattr(part, name), np.float32) for name in _FIELDS}
    return arrays


def from_arrays(arrays: Mapping[str, np.ndarray]) -> AnyFeatureDistribution:
    """Convert arrays that `to_arrays` returned back to a distribution.

    Raises:
        ValueError: these are not such arrays; the message says what is wrong with them.
    """
    fields_of: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    for name in arrays:
        match = _ARRAY_NAME.fullmatch(name)
        if not match:
            raise ValueError(f"it contains an unknown array {name!r}")
        index = int(match[2] or 0), int(match[3] or 0)
        fields_of.setdefault(index, {})[match[1]] = np.asarray(arrays[name])
    members: dict[int, list[FeatureDistribution]] = {}
    for (i, j), fields in sorted(fields_of.items()):
        sources = members.setdefault(i, [])
        if len(members) != i + 1 or len(sources) != j:
            raise ValueError("some of its arrays are missing")
        sources.append(_checked_distribution(fields))
    parts = tuple(_join_sources(sources) for sources in members.values())
    if not parts:
        raise ValueError("it contains no arrays")
    return parts[0] if len(parts) == 1 else EnsembleFeatureDistribution(parts)


def _join_sources(sources):
    if len({part.width for part in sources}) > 1:
        raise ValueError("its sources have different numbers of features")
    return sources[0] if len(sources) == 1 else PerSourceFeatureDistribution(tuple(sources))


def _checked_distribution(fields):
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    mean, axes, deviations, rest = (_finite(name, fields[name]) for name in _FIELDS)
    if mean.ndim != 1 or deviations.ndim != 1 or rest.ndim != 0:
        raise ValueError("its mean, deviations and rest must have 1, 1 and 0 dimensions")
    if axes.shape != (len(mean), len(deviations)):
        raise ValueError(f"its axes are {axes.shape} for {len(mean)} features and {len(deviations)} deviations")
    if min(deviations.min(initial=1), rest) <= 0:
        raise ValueError("its deviations must be positive")
    return FeatureDistribution(mean, axes, deviations, rest)


def _finite(name, values):
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ValueError(f"its {name} contains values that are not finite numbers")
    return values.astype(np.float64)


def fit_feature_distribution(
    features: ArrayLike, sources: ArrayLike | None = None, axes: int = MAX_AXES
) -> FeatureDistribution | PerSourceFeatureDistribution:
    """Fit the distribution of training features.

    Sources with fewer than MIN_SOURCE_SIZE images share one distribution. If these are fewer than 10 images in total,
    they are left out, because a distribution cannot be estimated from so few.

    Args:
        features: [n, features].
        sources: the source of each image [n]; None for one common distribution.
        axes: the number of principal axes to keep.
    """
    features = np.asarray(features, np.float64)
    groups = [features] if sources is None else _group_by_source(features, np.asarray(sources))
    distributions = tuple(_fit_one(group, axes) for group in groups)
    return distributions[0] if len(distributions) == 1 else PerSourceFeatureDistribution(distributions)


def with_source(distribution: AnyFeatureDistribution, features: ArrayLike) -> AnyFeatureDistribution:
    """Add a source to a distribution, without the features that it was fitted on.

    Args:
        distribution: of the other sources. That of an ensemble is returned as it is.
        features: of the new source [n, width]. With fewer than MIN_SOURCE_SIZE nothing is added.
    """
    features = np.asarray(features, np.float64)
    if isinstance(distribution, EnsembleFeatureDistribution) or len(features) < MIN_SOURCE_SIZE:
        return distribution
    parts = distribution.parts if isinstance(distribution, PerSourceFeatureDistribution) else (distribution,)
    return PerSourceFeatureDistribution((*parts, _fit_one(features, MAX_AXES)))


def foreign_limit(
    distribution: FeatureDistribution | PerSourceFeatureDistribution, features: ArrayLike, sources: ArrayLike
) -> float | None:
    """Compute how far the photographs of a source lie from the distributions of the other sources.

    Each source is left out in turn. The limit is that of the most distant one. It tells another camera, whose photographs
    are decided with a warning, from what resembles no camera.

    Args:
        distribution: what `fit_feature_distribution` returned for these features and sources.
        features: of the training images [n, features].
        sources: the source of each image [n].

    Returns:
        The limit; None with fewer than two sources.
    """
    if not isinstance(distribution, PerSourceFeatureDistribution):
        return None
    groups = _group_by_source(np.asarray(features, np.float64), np.asarray(sources))
    limits = []
    for i, group in enumerate(groups):
        others = PerSourceFeatureDistribution(distribution.parts[:i] + distribution.parts[i + 1 :])
        limits.append(distance_limit(others.distance(group)))
    return max(limit for limit in limits if limit is not None)


def _group_by_source(features, sources):
    """The features of each source, in the order of their names; those of small sources together come last."""
    _, codes, counts = np.unique(sources, return_inverse=True, return_counts=True)
    large = np.flatnonzero(counts >= MIN_SOURCE_SIZE)
    remaining = features[~np.isin(codes, large)]
    groups = [features[codes == code] for code in large]
    return groups if groups and len(remaining) < _MIN_SAMPLE else [*groups, remaining]


def _fit_one(features, axes):
    """Fit by the Ledoit-Wolf covariance estimate, which also works with fewer images than features."""
    from sklearn.covariance import LedoitWolf  # needed for fitting only: prediction runs without scikit-learn

    estimate = LedoitWolf().fit(features)
    variances, vectors = np.linalg.eigh(estimate.covariance_)
    variances = np.maximum(variances, max(variances[-1] * 1e-12, 1e-30))  # all are 0 if all images have equal features
    kept = min(axes, len(variances) - 1)
    rest = variances[: len(variances) - kept].mean()
    return FeatureDistribution(
        estimate.location_, vectors[:, ::-1][:, :kept], np.sqrt(variances[::-1][:kept]), np.sqrt(rest)
    )


def distance_limit(distances: ArrayLike, coverage: float = COVERAGE) -> float | None:
    """Compute the split-conformal limit within which a share of images like these lies.

    The conformal limit needs coverage / (1 - coverage) images. With fewer, the largest distance is mostly chance and
    lets other cameras pass, so the limit is the quantile of a log-normal distribution fitted to the distances. With
    fewer than 10 images it is the largest distance.

    Args:
        distances: of the calibration images [n].
        coverage: the share of images to keep.

    Returns:
        The limit; None without any image.
    """
    distances = np.sort(np.asarray(distances, np.float64))
    if not len(distances):
        return None
    rank = int(np.ceil(coverage * (len(distances) + 1)))
    if rank <= len(distances) or len(distances) < _MIN_SAMPLE:
        return float(distances[min(rank, len(distances)) - 1])
    logarithms = np.log(np.maximum(distances, 1e-12))
    return float(np.exp(logarithms.mean() + statistics.NormalDist().inv_cdf(coverage) * logarithms.std(ddof=1)))
