"""Correction for another mix of classes in the evaluated set than in the fitted one, when p(photograph | class) is alike.

Transductive: the mix is estimated from the very photographs that are judged (without their truths), so that corrected
figures are of this set as a whole, not of a photograph by itself. Whoever reports them must say so.
"""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.priors import shift

TRANSDUCTIVE = "transductive: the mix of classes was estimated from the evaluated photographs themselves"


def em_prior(probabilities, prior, *, steps=1000, tolerance=1e-8):
    """Saerens, Latinne and Decaestecker, Neural Computation 2002. Wants calibrated probabilities."""
    new = np.asarray(prior, float)
    for _ in range(steps):
        new, old = shift(probabilities, prior, new).mean(axis=0), new
        if np.abs(new - old).max() < tolerance:
            break
    return new


def bbse_prior(calibration_probabilities, calibration_truth, probabilities):
    """Lipton, Wang and Smola, ICML 2018, with soft decisions: the mix that explains the mean prediction by the mean
    prediction of each class among the calibration photographs; not below 0 (non-negative least squares)."""
    from scipy.optimize import nnls

    k = probabilities.shape[1]
    missing = sorted(set(range(k)) - set(calibration_truth.tolist()))
    if missing:
        raise UserError(f"bbse: no calibration photograph of class {', '.join(map(str, missing))}")
    means = np.stack([calibration_probabilities[calibration_truth == label].mean(axis=0) for label in range(k)], axis=1)
    mix, _ = nnls(np.vstack([means, 1e3 * np.ones(k)]), np.append(probabilities.mean(axis=0), 1e3))
    return mix / mix.sum()


def _em(predictions, prior, calibration):
    del calibration
    return em_prior(predictions.probabilities, prior)


def _bbse(predictions, prior, calibration):
    del prior
    if calibration is None:
        raise UserError("bbse needs the predictions on the calibration photographs")
    known = calibration.take(calibration.labelled)
    return bbse_prior(known.probabilities, known.truth, predictions.probabilities)


METHODS = {"em": _em, "bbse": _bbse}


def check_method(name):
    """None is no correction."""
    if name not in (None, *METHODS):
        raise UserError(f"unknown label shift correction {name!r}; known: {', '.join(METHODS)}")


def corrected(predictions, *, method, prior, calibration=None):
    """(predictions under the estimated mix, that mix). `prior` is the mix that the probabilities were made for.

    Classes are decided anew as the likeliest. p_positive moves with the classes where each says whether it is positive.
    """
    check_method(method)
    if predictions.multi_label:
        raise UserError("label shift can be corrected for one class a photograph, not for several labels")
    mix = METHODS[method](predictions, np.asarray(prior, float), calibration)
    probabilities = shift(predictions.probabilities, prior, mix)
    changes = {"probabilities": probabilities, "predicted": probabilities.argmax(axis=1), "prediction_intervals": None}
    says = predictions.class_is_positive()
    if None not in says:
        p_positive = np.clip(probabilities[:, np.flatnonzero(says)].sum(axis=1), 0, 1)
        refer = p_positive >= predictions.threshold
        changes |= {"p_positive": p_positive, "refer": refer}
        if predictions.action is not None:
            changes["action"] = np.where(predictions.gradable, np.where(refer, "refer", "clear"), "retake")
    return dataclasses.replace(predictions, **changes), mix
