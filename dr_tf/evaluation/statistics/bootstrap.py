"""The patient bootstrap, all bootstrap_samples at once.

A round draws as many patients as there are, with replacement, and takes all photographs of each: a patient's
multiplicity weighs its photographs. Figures of sums (confusion matrices, errors, bins) are then one matrix product over
bootstrap_samples; figures of ranks are running sums over photographs that were sorted once.
"""

import concurrent.futures
import os

import numpy as np

_BLOCK = 1 << 19  # multiplicities at a time: 4 MB stay in the cache and bound the memory


class Sums:
    """Figures of sums over photographs. `columns`: name -> [n, d]; `figures`: name -> function of their sums, which are
    given by the same names as [bootstrap_samples, d]."""

    def __init__(self, columns, figures, *, codes, patients):
        self.names, self._figures, self.width = set(figures), figures, patients
        self._ends = dict(zip(columns, np.cumsum([values.shape[1] for values in columns.values()]), strict=True))
        self._totals = np.zeros((patients, sum(values.shape[1] for values in columns.values())))
        np.add.at(self._totals, codes, np.concatenate(list(columns.values()), axis=1))

    def __call__(self, multiplicities):
        ends = list(self._ends.values())[:-1]
        sums = dict(zip(self._ends, np.split(multiplicities.astype(float) @ self._totals, ends, axis=1), strict=True))
        return {name: figure(sums) for name, figure in self._figures.items()}


class Combined:
    """Figures made of the values of other statistics."""

    def __init__(self, parts, figures):
        self.names = set(figures).union(*(part.names for part in parts))
        self.width = max((part.width for part in parts), default=1)
        self._parts, self._figures = parts, figures

    def __call__(self, multiplicities):
        values = {name: value for part in self._parts for name, value in part(multiplicities).items()}
        return values | {name: figure(values) for name, figure in self._figures.items()}


class Ranking:
    """AUROC and average precision of `scores` against a truth of 0 and 1; each is skipped where its name is None.

    Only the places of positives are looked at: there both figures follow from the number of positives and of all
    photographs so far. Single precision counts exactly up to 16 million.
    """

    def __init__(self, scores, truth, *, codes, auroc=None, average_precision=None):
        order = np.argsort(-scores, kind="stable")
        scores, truth = scores[order], np.asarray(truth)[order].astype(bool)
        self._auroc, self._average_precision = auroc, average_precision
        self.names, self.width = {auroc, average_precision} - {None}, len(codes)
        self._codes, self._positives = codes[order], np.flatnonzero(truth)
        self._group = np.flatnonzero(np.diff(scores[truth], prepend=np.inf))  # positives of one score count together
        values = scores[truth][self._group]
        self._first, self._last = np.searchsorted(-scores, -values), np.searchsorted(-scores, -values, "right") - 1
        self._tied = (self._last > self._first).any()

    def __call__(self, multiplicities):
        weights = multiplicities.take(self._codes, axis=1)
        so_far = weights.cumsum(axis=1)
        total, all_above = so_far[:, -1], so_far.take(self._last, axis=1)
        positives = weights.take(self._positives, axis=1)
        if self._tied:
            positives = np.add.reduceat(positives, self._group, axis=1)
        above = positives.cumsum(axis=1)
        m = above[:, -1]
        values = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            if self._average_precision:
                precision = above / np.maximum(all_above, 1)
                values[self._average_precision] = np.einsum("rn,rn->r", precision, positives) / m
            if self._auroc:
                beaten_by = all_above - above
                if self._tied:
                    before = so_far.take(self._first, axis=1) - weights.take(self._first, axis=1)
                    beaten_by -= (all_above - before - positives) / 2
                values[self._auroc] = 1 - np.einsum("rn,rn->r", beaten_by, positives) / (m * (total - m))
        return values


def multiplicities(rng, bootstrap_samples, patients):
    """[bootstrap_samples, patients]: how often each patient was drawn."""
    drawn = rng.integers(patients, size=(bootstrap_samples, patients), dtype=np.int32).astype(np.int64)
    drawn += np.arange(bootstrap_samples)[:, None] * patients
    return (
        np.bincount(drawn.ravel(), minlength=bootstrap_samples * patients)
        .reshape(bootstrap_samples, patients)
        .astype(np.float32)
    )


def bootstrap(statistics, *, patients, bootstrap_samples, seed):
    """name -> values [bootstrap_samples]. The draws depend on `patients`, `bootstrap_samples` and `seed` alone, so that two runs on the same
    patients are drawn alike."""
    import threadpoolctl

    size = max(1, min(bootstrap_samples, _BLOCK // patients))
    counts = [min(size, bootstrap_samples - done) for done in range(0, bootstrap_samples, size)]
    seeds = np.random.SeedSequence(seed).spawn(len(counts))

    def block(count, block_seed):
        return _values(statistics, multiplicities(np.random.default_rng(block_seed), count, patients))

    # Threads of the matrix library would fight with ours: 13 s became 0.5 s on two busy cores.
    with threadpoolctl.threadpool_limits(1), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return _joined(list(pool.map(block, counts, seeds)))


def _values(statistics, drawn):
    """A statistic is given as many bootstrap_samples at a time as its own rows allow: few patients may have many photographs."""
    values = {}
    for statistic in statistics:
        step = max(1, _BLOCK // statistic.width)
        values |= _joined([statistic(drawn[i : i + step]) for i in range(0, len(drawn), step)])
    return values


def _joined(blocks):
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
