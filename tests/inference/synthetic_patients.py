"""Simulated patients of known severity, and rules fitted on them."""

import numpy as np

from dr_tf.inference.fit_rule import CalibrationLabels, fit_rule
from dr_tf.models.links import probabilities_to_scores
from tests.inference import heads

NATURAL = np.array([0.7, 0.1, 0.1, 0.06, 0.04])
_SPREAD = 0.8


def sample_severities(patients, rng):
    """(latent severity, grade, patient) of two eyes of each patient."""
    severity = rng.choice(5, patients, p=NATURAL)
    grades = np.clip(severity[:, None] - rng.integers(0, 2, (patients, 2)) * (severity[:, None] > 0), 0, 4).ravel()
    latent = grades + rng.normal(0, _SPREAD, 2 * patients)
    return latent, grades, np.arange(patients).repeat(2).astype(str)


def simulate_scores(head, latent):
    """Scores of a network trained on balanced classes, with twice the logits of a calibrated one."""
    density = np.exp(-((latent[:, None] - np.arange(5)) ** 2) / 2 / _SPREAD**2) + 1e-12
    posterior = density / density.sum(axis=1, keepdims=True)
    if head.link == "coral":
        return 3 * latent[:, None] - 3 * np.arange(4)
    if head.link == "regression":
        return 2 * latent[:, None] - 2  # scale stretched around grade 2
    if head.link == "binary":
        posterior = np.stack([posterior[:, :2].sum(axis=1), posterior[:, 2:].sum(axis=1)], axis=1)
    return 2 * probabilities_to_scores(head.link, posterior)


def sample_scores(head, patients, rng, noise=0.0):
    """(scores, grades, patients) of two eyes of each patient; see `simulate_scores`."""
    latent, grades, names = sample_severities(patients, rng)
    scores = simulate_scores(head, latent)
    return scores + rng.normal(0, noise, scores.shape), grades, names


def labels_of(head, grades, patients):
    true_classes = (grades >= 2).astype(int) if isinstance(head, heads.Binary) else grades
    return CalibrationLabels(true_classes, (grades >= 2).astype(int), patients)


def prior_of(head):
    return [0.8, 0.2] if isinstance(head, heads.Binary) else NATURAL


def fit_example_rule(head, patients=300, seed=0, noise=0.0, **others):
    """(a rule of one output, the scores and grades that it was fitted on)."""
    logits, grades, names = sample_scores(head, patients, np.random.default_rng(seed), noise)
    truth = labels_of(head, grades, names)
    rule = fit_rule({"grade": head}, "grade", {"plain": logits}, truth, train_prior=prior_of(head), **others)
    return rule, logits, grades


def fit_label_rule(patients=400, seed=0, **others):
    """(a rule of three labels, the scores and labels that it was fitted on). The third label is partly unknown."""
    rng, head = np.random.default_rng(seed), heads.MultiLabel()
    labels = (rng.random((patients, 3)) < [0.5, 0.3, 0.1]).astype(int)
    labels[: patients // 8, 2] = -1
    logits = 3 * (2 * labels - 1 + rng.normal(0, 1, labels.shape))
    truth = CalibrationLabels(labels, labels, np.arange(patients))
    rule = fit_rule({"labels": head}, "labels", {"plain": logits}, truth, train_prior=[0.5, 0.3, 0.1], **others)
    return rule, logits, labels
