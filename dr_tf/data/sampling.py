"""Sampling of the training examples: which examples each epoch holds, in which batches, balanced by class or source.

Nothing is copied: rare examples are drawn more often. The batches of an epoch depend on the seed and the number of the
epoch only, so that a resumed run continues with the batches it would have had.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from dr_tf.console import UserError
from dr_tf.parameters import Count, NotNegative

CLASS: Literal["class"] = "class"
SOURCE: Literal["source"] = "source"  # what can be balanced

_SEED_KEY = 0x6F72646572  # keeps these random streams apart from others with the same seed
_MORE = 0x6D6F7265  # keeps the stream of added examples apart from those of classes


@dataclasses.dataclass(frozen=True)
class Order:
    """The batches of every epoch.

    Attributes:
        steps: number of batches in an epoch.
        batch_size: number of examples in a batch.
        prior: class prior of the batches: the share of each class, or the frequency of each label.
    """

    steps: int
    batch_size: int
    prior: tuple[float, ...]
    _draw: Callable[[int], np.ndarray]  # epoch -> at least steps * batch_size positions

    def epoch(self, number: int) -> np.ndarray:
        """Return the positions of an epoch's examples among the training examples, int [steps, batch_size]."""
        count = self.steps * self.batch_size
        return self._draw(number)[:count].reshape(self.steps, self.batch_size)


def with_more(order: Order, count: int, *, first: int, examples: int, seed: int) -> Order:
    """Add examples to each batch of an order, which take turns: all are used before one comes again.

    Args:
        order: the order.
        count: number of examples to add to each batch.
        first: position of the first of these examples; the others follow it.
        examples: how many of them there are.
        seed: seed of their order.
    """

    def draw(epoch):
        added = _from_passes(np.arange(examples), epoch * order.steps * count, order.steps * count, seed, _MORE)
        return np.hstack([order.epoch(epoch), first + added.reshape(order.steps, count)]).ravel()

    return Order(order.steps, order.batch_size + count, order.prior, draw)


@runtime_checkable
class Sampling(Protocol):
    """A way to draw training examples."""

    def plan(self, true_classes: np.ndarray, *, batch_size: int, seed: int, sources: np.ndarray | None = None) -> Order:
        """Plan the batches of every epoch.

        Args:
            true_classes: class of each training example, int [n], or its labels, 0 or 1 (-1 if unknown) [n, labels].
            batch_size: number of examples in a batch.
            seed: seed of the order.
            sources: source of each training example, text [n]; needed to balance by source.

        Raises:
            UserError: there are no examples, or not those that the sampling needs.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """Every example once per epoch, in a new random order. Examples left over from full batches are left out."""

    def plan(self, true_classes: np.ndarray, *, batch_size: int, seed: int, sources: np.ndarray | None = None) -> Order:
        """Plan the batches of every epoch, as in `Sampling.plan`; `sources` are not used."""
        true_classes = _checked(true_classes)
        count = len(true_classes)
        batch_size = min(_positive(batch_size), count)  # else a small set would have no batch at all
        prior = tuple(_memberships(true_classes).mean(0).tolist())
        return Order(count // batch_size, batch_size, prior, lambda epoch: _rng(seed, epoch).permutation(count))


@dataclasses.dataclass(frozen=True)
class Weighted:
    """Oversampling of rare classes, labels or sources.

    An example is drawn with a weight of 1 / frequency**strength, the mean over its classes or labels. Draws are evenly
    spaced on the cumulative weights: an example that is due 2.3 times comes 2 or 3 times in an epoch, where independent
    draws would leave out one in ten.

    Attributes:
        strength: 1 draws all classes equally often, 0 as often as they are.
        by: ("class",), ("source",) or both. By both, the classes are balanced, and the sources within each class.
    """

    strength: NotNegative = 1.0
    by: tuple[Literal["class", "source"], ...] = (CLASS,)

    def __post_init__(self) -> None:
        _check_by("weighted", self.by, ({CLASS}, {SOURCE}, {CLASS, SOURCE}))

    def plan(self, true_classes: np.ndarray, *, batch_size: int, seed: int, sources: np.ndarray | None = None) -> Order:
        """Plan the batches of every epoch, as in `Sampling.plan`."""
        true_classes = _checked(true_classes)
        members, source_members = _memberships(true_classes), _source_memberships(self.by, sources)
        if CLASS in self.by:
            _check_every_class(true_classes)
            shares = _shares(members, self.strength, source_members)
        else:
            shares = _shares(source_members, self.strength)
        count = len(true_classes)
        batch_size = min(_positive(batch_size), count)
        steps = count // batch_size
        return Order(
            steps,
            batch_size,
            tuple((shares @ members).tolist()),
            lambda epoch: _evenly_spaced_draws(_rng(seed, epoch), shares, steps * batch_size),
        )


@dataclasses.dataclass(frozen=True)
class ExactlyEach:
    """Batches with exactly the same number of examples of each class, whatever train.batch_size is.

    An epoch has as many examples as without balancing. All examples of a class are used, over several epochs if need be,
    before one comes again.

    Attributes:
        per_class: number of examples of each class in a batch.
        by: ("class",), or ("class", "source"): then the sources of a class take turns, and all examples of a source are
            used before one comes again.
    """

    per_class: Count
    by: tuple[Literal["class", "source"], ...] = (CLASS,)

    def __post_init__(self) -> None:
        _check_by("exactly_each", self.by, ({CLASS}, {CLASS, SOURCE}))

    def plan(self, true_classes: np.ndarray, *, batch_size: int, seed: int, sources: np.ndarray | None = None) -> Order:
        """Plan the batches of every epoch, as in `Sampling.plan`; `batch_size` is not used."""
        true_classes = _checked(true_classes)
        if true_classes.ndim > 1:
            raise UserError("exactly_each needs one class per example; for several labels use @weighted()")
        _check_every_class(true_classes)
        source_members = _source_memberships(self.by, sources)
        classes = [_rows_by_source(member, source_members) for member in _memberships(true_classes).T]
        per_class = _positive(self.per_class)
        whole_batch = per_class * len(classes)
        steps = max(1, len(true_classes) // whole_batch)
        prior = (1 / len(classes),) * len(classes)
        return Order(steps, whole_batch, prior, lambda epoch: _balanced_epoch(classes, steps, per_class, seed, epoch))


def _check_by(name, by, known):
    if isinstance(by, str) or set(by) not in known:
        values = " or ".join(str(tuple(sorted(value))) for value in known)
        raise UserError(f"{name}.by is {values}, not {by!r}")


def _source_memberships(by, sources):
    """0/1 [n, sources], or None if sources are not balanced."""
    if SOURCE not in by:
        return None
    if sources is None:
        raise ValueError("balancing by source needs `sources`")
    names, codes = np.unique(sources, return_inverse=True)
    return np.eye(len(names))[codes]


def _rng(seed, *stream):
    return np.random.default_rng([seed, _SEED_KEY, *stream])


def _positive(number):
    if number is None or number < 1:
        raise UserError(f"a batch holds at least one example, not {number}")
    return int(number)


def _checked(true_classes):
    if not len(true_classes):
        raise UserError("there is no example to train on")
    true_classes = np.asarray(true_classes)
    if true_classes.ndim == 1 and true_classes.min() < 0:
        raise UserError("an example without a label is among those to train on")
    return true_classes


def _check_every_class(true_classes):
    """Classes can be balanced only if each has an example."""
    if true_classes.ndim == 1 and (absent := sorted(set(range(true_classes.max())) - set(true_classes.tolist()))):
        raise UserError(f"no example to train on is of class {', '.join(map(str, absent))}")


def _memberships(true_classes):
    """0/1 [n, classes]."""
    if true_classes.ndim > 1:
        return (true_classes == 1).astype(np.float64)
    return np.eye(int(true_classes.max()) + 1)[true_classes]


def _shares(members, strength, source_members=None):
    """Share of each example in the draws. Having no label counts as a label of its own."""
    members = np.column_stack([members, members.sum(1) == 0])
    frequency = np.maximum(members.mean(0), 1 / len(members))
    weights = members / frequency**strength
    if source_members is not None:
        weights = weights * (source_members @ _source_factors(members, source_members, strength))
    weights = weights.sum(1) / members.sum(1)
    return weights / weights.sum()


def _source_factors(members, source_members, strength):
    """[sources, classes]: factor that balances the sources within each class."""
    share = source_members.T @ members / np.maximum(members.sum(0), 1)
    is_present = share > 0
    target = np.where(is_present, np.where(is_present, share, 1) ** (1 - strength), 0)
    target /= np.maximum(target.sum(0), np.finfo(float).tiny)
    return np.divide(target, share, out=np.zeros_like(share), where=is_present)


def _evenly_spaced_draws(rng, shares, count):
    """`count` draws, evenly spaced on the cumulative shares of the examples in random order."""
    shuffled = rng.permutation(len(shares))
    ends = np.cumsum(shares[shuffled])
    marks = (np.arange(count) + rng.random()) / count
    return rng.permutation(shuffled[np.minimum(np.searchsorted(ends, marks, side="right"), len(shuffled) - 1)])


def _rows_by_source(member, source_members):
    """Positions of the examples of one class, one array per source if sources are balanced."""
    columns = member[:, None] if source_members is None else source_members * member[:, None]
    return [rows for column in columns.T if len(rows := np.flatnonzero(column))]


def _balanced_epoch(classes, steps, per_class, seed, epoch):
    """Each class is an endless sequence of reshuffled passes; an epoch takes the next steps * per_class of it."""
    first, count = epoch * steps * per_class, steps * per_class
    drawn = [
        _from_class(by_source, first, count, seed, i).reshape(steps, per_class) for i, by_source in enumerate(classes)
    ]
    return _rng(seed, epoch).permuted(np.hstack(drawn), axis=1).ravel()  # so that a worker's shard is mixed, too


def _from_class(by_source, first, count, seed, number):
    """Elements `first` to `first + count` of the sequence of a class, whose sources take turns."""
    if len(by_source) == 1:
        return _from_passes(by_source[0], first, count, seed, number)
    drawn, turn = np.empty(count, int), np.arange(first, first + count) % len(by_source)
    for i, rows in enumerate(by_source):
        used_before, own_turn = (first - i - 1) // len(by_source) + 1, turn == i
        if own_turn.any():
            drawn[own_turn] = _from_passes(rows, used_before, own_turn.sum(), seed, number, i)
    return drawn


def _from_passes(rows, first, count, seed, *stream):
    """Elements `first` to `first + count` of an endless sequence of passes over `rows`, each in a new random order."""
    passes = range(first // len(rows), (first + count - 1) // len(rows) + 1)
    sequence = np.concatenate([rows[_rng(seed, *stream, i).permutation(len(rows))] for i in passes])
    return sequence[first - passes[0] * len(rows) :][:count]
