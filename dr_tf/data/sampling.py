"""Which fitted photographs an epoch holds, and in which batches: balance by drawing, nothing is copied.

A plan is made for `strata`: the class of each fitted photograph, int [n], or its labels, 0/1 [n, labels]; `sources` [n]
tell where each comes from. Epoch e of the `Order` that comes back is a function of the seed and e alone, so a run that
resumes there sees what it would have seen.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from dr_tf.console import UserError

CLASS, SOURCE = "class", "source"  # what can be balanced

_ORDER = 0x6F72646572  # keeps these streams apart from what others draw with the same seed


@dataclasses.dataclass(frozen=True)
class Order:
    """`prior` is what the model is fitted under: each class's share of what it sees, or each label's frequency."""

    steps: int
    batch_size: int
    prior: tuple[float, ...]
    _draw: Callable[[int], np.ndarray]  # epoch -> at least steps * batch_size positions

    def epoch(self, number):
        """int [steps, batch_size]: positions in what was planned for."""
        count = self.steps * self.batch_size
        return self._draw(number)[:count].reshape(self.steps, self.batch_size)


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """Each photograph once an epoch, in a new order; what does not fill a last batch waits for another epoch."""

    def plan(self, strata, *, batch_size, seed, classes=None, sources=None):
        strata = _some(strata)
        count = len(strata)
        batch_size = min(_whole(batch_size), count)  # else a small set would have no batch at all
        prior = tuple(_memberships(strata, classes).mean(0).tolist())
        return Order(count // batch_size, batch_size, prior, lambda epoch: _rng(seed, epoch).permutation(count))


@dataclasses.dataclass(frozen=True)
class Weighted:
    """What is rare more often: each photograph is drawn by the mean of 1 / frequency**strength over its classes or labels.

    At strength 1 all classes are drawn equally often, at 0 as they are. Draws lie evenly spaced on the sum of weights:
    a photograph due 2.3 times comes 2 or 3 times in an epoch, where independent draws leave one in ten out altogether.
    `by` ("source",) does so with sources in place of classes; by both, each class is as common as by class alone, and
    within it sources are balanced likewise.
    """

    strength: float = 1.0
    by: tuple[str, ...] = (CLASS,)

    def __post_init__(self):
        _check_by("weighted", self.by, ({CLASS}, {SOURCE}, {CLASS, SOURCE}))

    def plan(self, strata, *, batch_size, seed, classes=None, sources=None):
        strata = _some(strata)
        members, of_source = _memberships(strata, classes), _of_source(self.by, sources)
        if CLASS in self.by:
            _every_class(strata, classes)
            shares = _shares(members, self.strength, of_source)
        else:
            shares = _shares(of_source, self.strength)
        count = len(strata)
        batch_size = min(_whole(batch_size), count)
        steps = count // batch_size
        return Order(
            steps,
            batch_size,
            tuple((shares @ members).tolist()),
            lambda epoch: _evenly(_rng(seed, epoch), shares, steps * batch_size),
        )


@dataclasses.dataclass(frozen=True)
class ExactlyEach:
    """Batches of exactly `per_class` photographs of each class, whatever batch size is asked for.

    An epoch is as long as without balance. All of a class are used up, over epochs, before one comes again. `by` class
    and source, the sources of a class take turns, and all of a source are used up before one of it comes again.
    """

    per_class: int
    by: tuple[str, ...] = (CLASS,)

    def __post_init__(self):
        _check_by("exactly_each", self.by, ({CLASS}, {CLASS, SOURCE}))

    def plan(self, strata, *, batch_size=None, seed, classes=None, sources=None):
        strata = _every_class(_some(strata), classes)
        if strata.ndim > 1:
            raise UserError("batches with as many of each class need one class a photograph; labels want Weighted()")
        members, of_source = _memberships(strata, classes), _of_source(self.by, sources)
        rows = [_rows_by_source(column, of_source) for column in members.T]
        each, whole = _whole(self.per_class), _whole(self.per_class) * len(rows)
        steps = max(1, len(strata) // whole)
        prior = (1 / len(rows),) * len(rows)
        return Order(steps, whole, prior, lambda epoch: _each(rows, steps, each, seed, epoch))


def _check_by(name, by, known):
    if isinstance(by, str) or set(by) not in known:
        ways = " or ".join(str(tuple(sorted(way))) for way in known)
        raise UserError(f"{name}.by is {ways}, not {by!r}")


def _of_source(by, sources):
    """0/1 [n, sources], or None where sources do not count."""
    if SOURCE not in by:
        return None
    if sources is None:
        raise ValueError("to balance by source, plan() is told the sources")
    names, codes = np.unique(sources, return_inverse=True)
    return np.eye(len(names))[codes]


def _rng(seed, *stream):
    return np.random.default_rng([seed, _ORDER, *stream])


def _whole(number):
    if number is None or number < 1:
        raise UserError(f"a batch holds at least one photograph, not {number}")
    return int(number)


def _some(strata):
    if not len(strata):
        raise UserError("there is no photograph to train on")
    strata = np.asarray(strata)
    if strata.ndim == 1 and strata.min() < 0:
        raise UserError("a photograph without a label is among those to train on")
    return strata


def _every_class(strata, classes):
    """Balance is between classes that are there: refused where one has no photograph at all."""
    names = classes or range(_count(strata))
    absent = [str(name) for name, n in zip(names, _memberships(strata, classes).sum(0), strict=True) if not n]
    if absent and strata.ndim == 1:
        raise UserError(f"no photograph to train on is of class {', '.join(absent)}")
    return strata


def _count(strata):
    return strata.shape[1] if strata.ndim > 1 else int(strata.max()) + 1


def _memberships(strata, classes):
    """0/1 [n, classes]."""
    if strata.ndim > 1:
        return (strata == 1).astype(np.float64)
    return np.eye(len(classes) if classes else _count(strata))[strata]


def _shares(members, strength, of_source=None):
    """Of each photograph in what is drawn. Photographs without a label are weighted as a label of their own."""
    members = np.column_stack([members, members.sum(1) == 0])
    frequency = np.maximum(members.mean(0), 1 / len(members))
    each = members / frequency**strength
    if of_source is not None:
        each = each * (of_source @ _source_factors(members, of_source, strength))
    weights = each.sum(1) / members.sum(1)
    return weights / weights.sum()


def _source_factors(members, of_source, strength):
    """[sources, classes]: how much more often a class's photographs of a source are drawn than all of the class are."""
    share = of_source.T @ members / np.maximum(members.sum(0), 1)
    there = share > 0
    wanted = np.where(there, np.where(there, share, 1) ** (1 - strength), 0)
    wanted /= np.maximum(wanted.sum(0), np.finfo(float).tiny)
    return np.divide(wanted, share, out=np.zeros_like(share), where=there)


def _evenly(rng, shares, count):
    """`count` draws, evenly spaced on the shares laid end to end in a random order."""
    places = rng.permutation(len(shares))
    ends = np.cumsum(shares[places])
    marks = (np.arange(count) + rng.random()) / count
    return rng.permutation(places[np.minimum(np.searchsorted(ends, marks, side="right"), len(places) - 1)])


def _rows_by_source(member, of_source):
    """The rows of one class, apart by source where sources count."""
    columns = member[:, None] if of_source is None else of_source * member[:, None]
    return [rows for column in columns.T if len(rows := np.flatnonzero(column))]


def _each(classes, steps, per_class, seed, epoch):
    """Each class is an endless row of shuffled rounds; an epoch takes the next steps * per_class of it."""
    first, count = epoch * steps * per_class, steps * per_class
    drawn = [_in_turn(rows, first, count, seed, i).reshape(steps, per_class) for i, rows in enumerate(classes)]
    return _rng(seed, epoch).permuted(np.hstack(drawn), axis=1).ravel()  # a worker's share of a batch is mixed, too


def _in_turn(rows_of, first, count, seed, number):
    """Places `first` to `first + count` of a class whose sources take turns."""
    if len(rows_of) == 1:
        return _stretch(rows_of[0], first, count, seed, number)
    drawn, turn = np.empty(count, int), np.arange(first, first + count) % len(rows_of)
    for i, rows in enumerate(rows_of):
        before, mine = (first - i - 1) // len(rows_of) + 1, turn == i
        if mine.any():
            drawn[mine] = _stretch(rows, before, mine.sum(), seed, number, i)
    return drawn


def _stretch(rows, first, count, seed, *stream):
    rounds = range(first // len(rows), (first + count - 1) // len(rows) + 1)
    row = np.concatenate([rows[_rng(seed, *stream, i).permutation(len(rows))] for i in rounds])
    return row[first - rounds[0] * len(rows) :][:count]
