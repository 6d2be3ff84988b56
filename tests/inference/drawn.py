"""Patients whose severity is known, and rules fitted on them."""

import numpy as np

from dr_tf.inference.calibration import logits_of
from dr_tf.inference.fitting import Truth, fit_rule
from tests.inference import heads

NATURAL = np.array([0.7, 0.1, 0.1, 0.06, 0.04])


def drawn(head, patients, rng, noise=0.0):
    """(logits, grades, patients): two eyes a patient, logits sharper than they should be and under a prior of their own."""
    severity = rng.choice(5, patients, p=NATURAL)
    grades = np.clip(severity[:, None] - rng.integers(0, 2, (patients, 2)) * (severity[:, None] > 0), 0, 4).ravel()
    latent = grades + rng.normal(0, 0.8, 2 * patients)
    density = np.exp(-((latent[:, None] - np.arange(5)) ** 2) / 2 / 0.8**2) + 1e-12
    logits = logits_of(head.calibration, density / density.sum(axis=1, keepdims=True), head.outputs)
    if head.calibration == "coral":
        logits = 1.5 * latent[:, None] - 1.5 * np.arange(4)
    return 2 * logits + rng.normal(0, noise, logits.shape), grades, np.arange(patients).repeat(2).astype(str)


def truth_of(head, grades, patients):
    strata = (grades >= 2).astype(int) if isinstance(head, heads.Binary) else grades
    return Truth(strata, (grades >= 2).astype(int), patients)


def fitted(head, patients=300, seed=0, noise=0.0, **others):
    logits, grades, names = drawn(head, patients, np.random.default_rng(seed), noise)
    prior = [0.8, 0.2] if isinstance(head, heads.Binary) else NATURAL
    return fit_rule(head, {"plain": logits}, truth_of(head, grades, names), train_prior=prior, **others), logits, grades
