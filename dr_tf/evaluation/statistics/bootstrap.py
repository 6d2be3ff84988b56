"""Patient-level bootstrap of many metrics at once.

A bootstrap sample draws as many patients as there are, with replacement, and takes all images of each. It is
represented by the number of times each patient was drawn, which weighs the patient's images. Metrics that are
functions of sums (confusion matrices, errors, bins) then take one matrix product for all bootstrap samples. Metrics
that depend on ranks take cumulative sums over images that were sorted once.
"""

import concurrent.futures
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

_BLOCK = 1 << 19  # weights per block: 4 MB fit in the cache and bound the memory


SumMetric = Callable[[dict[str, np.ndarray]], np.ndarray]  # of {column: its sums [bootstrap samples, d]}


class BootstrapStatistic(Protocol):
    """A function of patient weights [bootstrap samples, patients] that returns {metric: values [bootstrap samples]}."""

    names: set[str]  # the metrics that it computes
    width: int  # numbers held per bootstrap sample; bounds how many samples are computed at a time

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the metrics of each bootstrap sample."""
        ...


class SumStatistics:
    """Metrics that are functions of weighted sums over images."""

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        metrics: Mapping[str, SumMetric],
        *,
        codes: np.ndarray,
        patients: int,
    ) -> None:
        """Sum the columns over each patient.

        Args:
            columns: name -> [n, d], what is summed over the images.
            metrics: metric -> function of {name of a column: its sums [bootstrap samples, d]}.
            codes: [n], the number of each image's patient.
            patients: number of patients.
        """
        self.names, self._metrics, self.width = set(metrics), metrics, patients
        self._ends = dict(zip(columns, np.cumsum([values.shape[1] for values in columns.values()]), strict=True))
        self._totals = np.zeros((patients, sum(values.shape[1] for values in columns.values())))
        np.add.at(self._totals, codes, np.concatenate(list(columns.values()), axis=1))

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the metrics of each bootstrap sample."""
        ends = list(self._ends.values())[:-1]
        sums = dict(zip(self._ends, np.split(weights.astype(float) @ self._totals, ends, axis=1), strict=True))
        return {name: metric(sums) for name, metric in self._metrics.items()}


class DerivedStatistics:
    """Metrics that are functions of the values of other bootstrap statistics, beside those values."""

    def __init__(
        self,
        statistics: Sequence[BootstrapStatistic],
        metrics: Mapping[str, Callable[[dict[str, np.ndarray]], np.ndarray]],
    ) -> None:
        """Store the statistics and the functions, metric -> function of {metric of the statistics: values}."""
        self.names = set(metrics).union(*(statistic.names for statistic in statistics))
        self.width = max((statistic.width for statistic in statistics), default=1)
        self._statistics, self._metrics = statistics, metrics

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the metrics of each bootstrap sample."""
        values = {name: value for statistic in self._statistics for name, value in statistic(weights).items()}
        return values | {name: metric(values) for name, metric in self._metrics.items()}


class RankStatistics:
    """AUROC and average precision.

    Both follow, at the positions of the positives alone, from the cumulative number of positives and of all images.
    Single precision counts exactly up to 16 million.
    """

    def __init__(
        self,
        scores: np.ndarray,
        truth: np.ndarray,
        *,
        codes: np.ndarray,
        auroc: str | None = None,
        average_precision: str | None = None,
    ) -> None:
        """Sort the images by their score.

        Args:
            scores: [n].
            truth: [n], 0 or 1.
            codes: [n], the number of each image's patient.
            auroc: name of the metric; None: not computed.
            average_precision: name of the metric; None: not computed.
        """
        order = np.argsort(-scores, kind="stable")
        scores, truth = scores[order], np.asarray(truth)[order].astype(bool)
        self._auroc, self._average_precision = auroc, average_precision
        self.names, self.width = {name for name in (auroc, average_precision) if name}, len(codes)
        self._codes, self._positives = codes[order], np.flatnonzero(truth)
        self._group = np.flatnonzero(np.diff(scores[truth], prepend=np.inf))  # tied positives count together
        values = scores[truth][self._group]
        self._first, self._last = np.searchsorted(-scores, -values), np.searchsorted(-scores, -values, "right") - 1
        self._tied = (self._last > self._first).any()

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the metrics of each bootstrap sample."""
        weights = weights.take(self._codes, axis=1)
        cumulative = weights.cumsum(axis=1)
        total, images_above = cumulative[:, -1], cumulative.take(self._last, axis=1)
        positives = weights.take(self._positives, axis=1)
        if self._tied:
            positives = np.add.reduceat(positives, self._group, axis=1)
        positives_above = positives.cumsum(axis=1)
        m = positives_above[:, -1]
        values = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            if self._average_precision:
                precision = positives_above / np.maximum(images_above, 1)
                values[self._average_precision] = np.einsum("rn,rn->r", precision, positives) / m
            if self._auroc:
                negatives_above = images_above - positives_above
                if self._tied:
                    before = cumulative.take(self._first, axis=1) - weights.take(self._first, axis=1)
                    negatives_above -= (images_above - before - positives) / 2
                values[self._auroc] = 1 - np.einsum("rn,rn->r", negatives_above, positives) / (m * (total - m))
        return values


class SensitivityAtSpecificity:
    """The highest sensitivity of any threshold whose specificity is at least a given one: a point of the ROC curve."""

    def __init__(
        self, scores: np.ndarray, truth: np.ndarray, *, codes: np.ndarray, specificity: float, name: str
    ) -> None:
        """Sort the images by their score.

        Args:
            scores: [n].
            truth: [n], 0 or 1.
            codes: [n], the number of each image's patient.
            specificity: the specificity to keep.
            name: name of the metric.
        """
        order = np.argsort(-scores, kind="stable")
        self.names, self.width, self._name, self._specificity = {name}, len(codes), name, specificity
        self._codes, self._truth = codes[order], np.asarray(truth)[order].astype(np.float32)
        # A threshold lies below an image with all images of the same score.
        self._ends = np.flatnonzero(np.diff(-scores[order], append=np.inf))

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the metric of each bootstrap sample; NaN without positives or negatives."""
        weights = weights.take(self._codes, axis=1)
        positives = (weights * self._truth).cumsum(axis=1)
        negatives = (weights * (1 - self._truth)).cumsum(axis=1)
        allowed = (1 - self._specificity) * negatives[:, -1:] * (1 + 1e-6)
        is_allowed = negatives.take(self._ends, axis=1) <= allowed
        found = np.where(is_allowed, positives.take(self._ends, axis=1), 0).max(axis=1)
        with np.errstate(invalid="ignore"):
            value = found / np.where(positives[:, -1] > 0, positives[:, -1], np.nan)
        return {self._name: np.where(negatives[:, -1] > 0, value, np.nan)}


def draw_weights(rng: np.random.Generator, bootstrap_samples: int, patients: int) -> np.ndarray:
    """Draw bootstrap samples of patients: [bootstrap_samples, patients], how often each patient was drawn."""
    drawn = rng.integers(patients, size=(bootstrap_samples, patients), dtype=np.int32).astype(np.int64)
    drawn += np.arange(bootstrap_samples)[:, None] * patients
    return (
        np.bincount(drawn.ravel(), minlength=bootstrap_samples * patients)
        .reshape(bootstrap_samples, patients)
        .astype(np.float32)
    )


def bootstrap(
    statistics: Sequence[BootstrapStatistic], *, patients: int, bootstrap_samples: int, seed: int
) -> dict[str, np.ndarray]:
    """Compute the bootstrap distribution of all metrics of `statistics`: {metric: values [bootstrap_samples]}.

    The samples depend on `patients`, `bootstrap_samples` and `seed` alone. Two runs on the same patients therefore get
    the same samples and can be compared in pairs.
    """
    import threadpoolctl

    size = max(1, min(bootstrap_samples, _BLOCK // patients))
    counts = [min(size, bootstrap_samples - done) for done in range(0, bootstrap_samples, size)]
    seeds = np.random.SeedSequence(seed).spawn(len(counts))

    def block(count: int, block_seed: np.random.SeedSequence) -> dict[str, np.ndarray]:
        return _values(statistics, draw_weights(np.random.default_rng(block_seed), count, patients))

    # Threads of the matrix library would compete with these: 13 s became 0.5 s on two busy cores.
    with threadpoolctl.threadpool_limits(1), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return _concatenate(list(pool.map(block, counts, seeds)))


def _values(statistics: Iterable[BootstrapStatistic], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Call each statistic on as many samples at a time as its width allows: few patients may have many images."""
    values: dict[str, np.ndarray] = {}
    for statistic in statistics:
        step = max(1, _BLOCK // statistic.width)
        values |= _concatenate([statistic(weights[i : i + step]) for i in range(0, len(weights), step)])
    return values


def _concatenate(blocks: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
