"""How common each class is: where the network learned, and where its answers are read.

Balanced batches and class weights teach a network that every grade is as common as any other. Its posterior is moved to
another prior by Bayes' rule on class probabilities, p'(c) ~ p(c) * target(c) / fitted(c) (Saerens et al., Neural
Computation 2002); an ordinal head's cumulative probabilities follow from the moved classes, and stay in order.
"""

import numpy as np

from dr_tf.console import UserError


def class_prior(truth, classes):
    """Shares of the classes in `truth` [n], or of each label in 0/1 [n, labels]; -1 is not known.

    Half a case is added to each (Jeffreys' prior), so that a class that a small split lacks is rare and not impossible.
    """
    truth = np.asarray(truth)
    if truth.ndim == 2:
        return ((truth == 1).sum(axis=0) + 0.5) / ((truth >= 0).sum(axis=0) + 1)
    counts = np.bincount(truth[truth >= 0], minlength=classes) + 0.5
    return counts / counts.sum()


def shift(probabilities, fitted, target, *, exclusive=True):
    """`exclusive`: the classes of a photograph sum to one; otherwise each label is present or absent by itself."""
    probabilities, fitted, target = (np.asarray(v, np.float64) for v in (probabilities, fitted, target))
    present = probabilities * (target / fitted)
    if exclusive:
        return present / present.sum(axis=-1, keepdims=True)
    return present / (present + (1 - probabilities) * ((1 - target) / (1 - fitted)))


def _uniform(*, fitted, train, exclusive):
    return np.full(len(fitted), 1 / len(fitted) if exclusive else 0.5)


PRIORS = {
    "fitted": lambda *, fitted, **_: fitted,
    "train": lambda *, train, **_: train,
    "uniform": _uniform,
}


def check_prior(wanted, head):
    """Refuses, before anything is trained, what `target_prior` could not give."""
    even = np.full(len(head.classes), 1 / len(head.classes))
    target_prior(wanted, fitted=even, train=even, head=head)


def target_prior(wanted, *, fitted, train, head):
    """`wanted`: a name in PRIORS, a table {class: share}, or the prevalence of `head.positive` as one number."""
    exclusive = head.exclusive
    if isinstance(wanted, dict):
        prior = _from_table(wanted, head.classes)
    elif isinstance(wanted, str):
        if wanted not in PRIORS:
            raise UserError(f"unknown prior {wanted!r}; known: {', '.join(PRIORS)}, a table {{class: share}}, a number")
        prior = np.asarray(PRIORS[wanted](fitted=fitted, train=train, exclusive=exclusive), np.float64)
    elif isinstance(wanted, bool) or not isinstance(wanted, (int, float)):
        raise UserError(
            f"a prior is a name ({', '.join(PRIORS)}), a table {{class: share}} or a number, not {wanted!r}"
        )
    else:
        prior = at_prevalence(fitted, wanted, positive_classes(head), exclusive=exclusive)
    if not (prior > 0).all() or (not exclusive and not (prior < 1).all()):
        raise UserError("every class of a prior needs a share above 0 (and below 1)")
    return prior / prior.sum() if exclusive else prior


def _from_table(table, classes):
    if set(table) != set(classes):
        raise UserError(f"a prior's table names each class once; the classes are {', '.join(classes)}")
    if not all(isinstance(share, (int, float)) and np.isfinite(share) for share in table.values()):
        raise UserError(f"a prior's table gives each class a number, not {table}")
    return np.array([table[name] for name in classes], np.float64)


def positive_classes(head):
    """Which columns of the probabilities count as positive, by the head's own rule."""
    return np.asarray(head.p_positive(np.eye(len(head.classes)))) > 0.5


def at_prevalence(prior, prevalence, positive, *, exclusive=True):
    """`prior` with the positive classes at `prevalence` together, as common among themselves as before."""
    if not 0 < prevalence < 1:
        raise UserError(f"a prevalence lies between 0 and 1, not at {prevalence}")
    prior = np.asarray(prior, np.float64)
    if not exclusive:
        return np.where(positive, prevalence, prior)
    share = prior[positive].sum()
    return np.where(positive, prior * (prevalence / share), prior * ((1 - prevalence) / (1 - share)))
