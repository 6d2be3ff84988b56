"""Class priors: estimate them, and shift predicted probabilities from one prior to another.

A network trained with balanced batches or class weights predicts as if all grades were equally common. Bayes' rule
moves its class probabilities to another prior: p'(c) ~ p(c) * target(c) / fitted(c) (Saerens et al., Neural Computation
2002). The cumulative probabilities of an ordinal head follow from the shifted class probabilities, and stay in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.console import UserError

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head

# A name in PRIORS, a table {class: share}, or the prevalence of the head's definition of positive.
PriorConfig = str | Mapping[str, float] | float

_MAX_STEPS, _TOLERANCE, _MIN_SHARE = 1000, 1e-7, 1e-4  # of the estimate by expectation-maximization


def class_prior(labels: ArrayLike, classes: int) -> np.ndarray:
    """Estimate the prior of each class, or of each label.

    Half a case is added to each class (Jeffreys' prior), so that a class missing from a small split is rare, not
    impossible.

    Args:
        labels: true classes [n], or 0/1 of each label [n, labels]; -1 where unknown.
        classes: the number of classes.

    Returns:
        Shares [classes] that sum to 1, or the prevalence of each label [labels].
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        return ((labels == 1).sum(axis=0) + 0.5) / ((labels >= 0).sum(axis=0) + 1)
    counts = np.bincount(labels[labels >= 0], minlength=classes) + 0.5
    return counts / counts.sum()


def shift_prior(
    probabilities: ArrayLike, fitted: ArrayLike, target: ArrayLike, *, exclusive: bool = True
) -> np.ndarray:
    """Move class probabilities from one prior to another by Bayes' rule.

    Args:
        probabilities: [..., classes], calibrated for the prior `fitted`.
        fitted: the prior that the probabilities are calibrated for [classes].
        target: the prior to move to [classes].
        exclusive: whether the classes exclude each other; if not, each label is shifted by itself.

    Returns:
        [..., classes].
    """
    probabilities, fitted, target = (np.asarray(v, np.float64) for v in (probabilities, fitted, target))
    odds = probabilities * (target / fitted)
    if exclusive:
        return odds / odds.sum(axis=-1, keepdims=True)
    return odds / (odds + (1 - probabilities) * ((1 - target) / (1 - fitted)))


def estimate_prior(probabilities: ArrayLike, prior: ArrayLike, *, exclusive: bool = True) -> np.ndarray:
    """Estimate the prior of a population from the predictions on it, without labels.

    This is the maximum-likelihood estimate by expectation-maximization (Saerens et al., Neural Computation 2002). It
    assumes that only the frequency of the classes differs, not their appearance.

    Args:
        probabilities: [n, classes], calibrated for `prior`.
        prior: the prior that the probabilities are calibrated for [classes].
        exclusive: whether the classes exclude each other; if not, each label is estimated by itself.

    Returns:
        Shares [classes].
    """
    estimate = np.asarray(prior, np.float64)
    for _ in range(_MAX_STEPS):
        mean = shift_prior(probabilities, prior, estimate, exclusive=exclusive).mean(axis=0)
        before, estimate = estimate, np.clip(mean, _MIN_SHARE, 1 - _MIN_SHARE)
        if np.abs(estimate - before).max() < _TOLERANCE:
            break
    return estimate / estimate.sum() if exclusive else estimate


def _uniform(*, fitted, train, exclusive):
    return np.full(len(fitted), 1 / len(fitted) if exclusive else 0.5)


PRIORS: dict[str, Callable[..., ArrayLike]] = {
    "fitted": lambda *, fitted, **_: fitted,
    "train": lambda *, train, **_: train,
    "uniform": _uniform,
}


def check_prior(prior: PriorConfig, head: Head) -> None:
    """Raise a UserError before training if `target_prior` cannot resolve the prior."""
    uniform = np.full(len(head.classes), 1 / len(head.classes))
    target_prior(prior, fitted=uniform, train=uniform, head=head)


def target_prior(prior: PriorConfig, *, fitted: ArrayLike, train: ArrayLike, head: Head) -> np.ndarray:
    """Compute the prior that predictions are calibrated for.

    Args:
        prior: a name in PRIORS, a table {class: share}, or the prevalence of `head.positive` as one number.
        fitted: the prior of the calibration split [classes].
        train: the prior of the training split [classes].
        head: the head that decides.

    Returns:
        Shares [classes].

    Raises:
        UserError: the prior is unknown, or a share is not between 0 and 1.
    """
    exclusive = head.exclusive
    if isinstance(prior, Mapping):
        shares = _from_table(prior, head.classes)
    elif isinstance(prior, str):
        if prior not in PRIORS:
            raise UserError(
                f"unknown prior {prior!r}; known: {', '.join(PRIORS)}, a table {{class: share}}, or a prevalence"
            )
        shares = np.asarray(PRIORS[prior](fitted=fitted, train=train, exclusive=exclusive), np.float64)
    elif isinstance(prior, bool) or not isinstance(prior, (int, float)):
        raise UserError(
            f"a prior is a name ({', '.join(PRIORS)}), a table {{class: share}} or a prevalence, not {prior!r}"
        )
    else:
        shares = prior_at_prevalence(fitted, prior, positive_classes(head), exclusive=exclusive)
    if not (shares > 0).all() or (not exclusive and not (shares < 1).all()):
        raise UserError("every class of a prior needs a share above 0 (and below 1)")
    return shares / shares.sum() if exclusive else shares


def _from_table(table: Mapping[str, float], classes: Sequence[str]) -> np.ndarray:
    if set(table) != set(classes):
        raise UserError(f"the table of a prior needs each class once; the classes are {', '.join(classes)}")
    if not all(isinstance(share, (int, float)) and np.isfinite(share) for share in table.values()):
        raise UserError(f"the table of a prior needs a number for each class, not {table}")
    return np.array([table[name] for name in classes], np.float64)


def positive_classes(head: Head) -> np.ndarray:
    """Return which classes count as positive by the head's definition, bool [classes]."""
    return np.asarray(head.p_positive(np.eye(len(head.classes)))) > 0.5


def prior_at_prevalence(
    prior: ArrayLike, prevalence: float, positive: np.ndarray, *, exclusive: bool = True
) -> np.ndarray:
    """Rescale a prior to a given prevalence of the positive classes.

    Args:
        prior: shares [classes].
        prevalence: the new sum of the positive classes' shares. Ratios among them stay, as do ratios among the others.
        positive: which classes are positive, bool [classes].
        exclusive: whether the classes exclude each other; if not, only the positive labels' shares change.

    Raises:
        UserError: the prevalence is not between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise UserError(f"a prevalence must be between 0 and 1, not {prevalence}")
    prior = np.asarray(prior, np.float64)
    if not exclusive:
        return np.where(positive, prevalence, prior)
    share = prior[positive].sum()
    return np.where(positive, prior * (prevalence / share), prior * ((1 - prevalence) / (1 - share)))
