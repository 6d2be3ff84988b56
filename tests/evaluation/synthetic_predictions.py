"""Synthetic predictions from a seed, with an accuracy as that of a real model."""

import numpy as np

from dr_tf.evaluation.predictions import Predictions
from dr_tf.grades import GRADES, ODIR_LABELS

SHARES = (0.45, 0.15, 0.22, 0.1, 0.08)


def softmax(logits):
    whole = np.exp(logits - logits.max(axis=1, keepdims=True))
    return whole / whole.sum(axis=1, keepdims=True)


def make_graded(n=300, *, seed=0, eyes=1, skill=1.0, heat=1.0, **changes):
    """Make graded predictions with `eyes` correlated images per patient; `heat` above 1 makes them overconfident."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(-(-n // eyes)), eyes)[:n]
    truth = rng.choice(5, p=SHARES, size=patients.max() + 1)[patients]
    noise = rng.normal(size=(patients.max() + 1))[patients] + rng.normal(size=n)
    severity = truth + noise / (1.6 * skill)
    probabilities = softmax(-((severity[:, None] - np.arange(5)) ** 2) * heat)
    p_positive = probabilities[:, 2:].sum(axis=1)
    fields = {
        "dataset": "made/256", "split": "test", "ids": [f"eye {i}" for i in range(n)],
        "patients": [f"patient {i}" for i in patients], "patient_known": np.ones(n, bool), "classes": GRADES,
        "truth": truth, "predicted": probabilities.argmax(axis=1), "probabilities": probabilities,
        "positive": "referable", "truth_positive": (truth >= 2).astype(int), "p_positive": p_positive,
        "threshold": 0.4, "refer": p_positive >= 0.4,
    }  # fmt: skip
    return Predictions(**fields | changes)


def make_labelled(n=200, *, seed=0, eyes=1, **changes):
    """Make predictions of ODIR's eight labels."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(-(-n // eyes)), eyes)[:n]
    truth = (rng.random((n, 8)) < (0.3, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3)).astype(int)
    probabilities = 1 / (1 + np.exp(-(3 * truth - 1.5 + rng.normal(size=(n, 8)))))
    fields = {
        "dataset": "made/odir", "split": "test", "ids": [f"row {i}" for i in range(n)],
        "patients": [f"patient {i}" for i in patients], "patient_known": np.ones(n, bool),
        "classes": tuple(ODIR_LABELS), "truth": truth, "predicted": (probabilities > 0.4).astype(int),
        "probabilities": probabilities, "positive": "odir_D", "truth_positive": truth[:, 1],
        "p_positive": probabilities[:, 1], "threshold": 0.5, "refer": probabilities[:, 1] >= 0.5,
    }  # fmt: skip
    return Predictions(**fields | changes)
