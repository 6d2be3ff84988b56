"""Correction for label shift: the evaluated set has another class prior, with the same p(image | class).

The correction is transductive. It estimates the class prior from the evaluated images themselves (without their
labels), so that the corrected metrics are of this set as a whole and not of an image by itself. Reports have to say
so.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.predictions import Predictions
from dr_tf.inference.priors import shift_prior

TRANSDUCTIVE = "transductive: the class prior was estimated from the evaluated photographs themselves"


def em_prior(probabilities: np.ndarray, prior: np.ndarray, *, steps: int = 1000, tolerance: float = 1e-8) -> np.ndarray:
    """Estimate the class prior by expectation maximization.

    Saerens, Latinne and Decaestecker, Neural Computation 2002.

    Args:
        probabilities: [n, classes], calibrated for `prior`.
        prior: [classes].
        steps: the most iterations.
        tolerance: the largest change of any class at which iteration stops.

    Returns:
        The estimated prior [classes].
    """
    new = np.asarray(prior, float)
    for _ in range(steps):
        new, old = shift_prior(probabilities, prior, new).mean(axis=0), new
        if np.abs(new - old).max() < tolerance:
            break
    return new


def bbse_prior(
    calibration_probabilities: np.ndarray, calibration_truth: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """Estimate the class prior by black box shift estimation (Lipton, Wang and Smola, ICML 2018) with soft predictions.

    It is the mixture of each class's mean prediction on calibration images that equals the mean prediction on the
    evaluated images, by non-negative least squares.

    Raises:
        UserError: if a class has no calibration image.
    """
    from scipy.optimize import nnls

    k = probabilities.shape[1]
    missing = sorted(set(range(k)) - set(calibration_truth.tolist()))
    if missing:
        raise UserError(f"bbse: no calibration photograph of class {', '.join(map(str, missing))}")
    means = np.stack([calibration_probabilities[calibration_truth == label].mean(axis=0) for label in range(k)], axis=1)
    mixture, _ = nnls(np.vstack([means, 1e3 * np.ones(k)]), np.append(probabilities.mean(axis=0), 1e3))
    return mixture / mixture.sum()


def _em(predictions: Predictions, prior: np.ndarray, calibration: Predictions | None) -> np.ndarray:
    del calibration
    return em_prior(predictions.probabilities, prior)


def _bbse(predictions: Predictions, prior: np.ndarray, calibration: Predictions | None) -> np.ndarray:
    del prior
    if calibration is None:
        raise UserError("bbse needs the predictions on the calibration photographs; --label_shift em does not")
    known = calibration.take(calibration.labelled)
    return bbse_prior(known.probabilities, known.truth, predictions.probabilities)


METHODS: dict[str, Callable[[Predictions, np.ndarray, Predictions | None], np.ndarray]] = {"em": _em, "bbse": _bbse}


def check_method(name: str | None) -> None:
    """Raise UserError for an unknown correction; None is no correction."""
    if name not in (None, *METHODS):
        raise UserError(f"unknown label shift correction {name!r}; known: {', '.join(METHODS)}")


def correct_label_shift(
    predictions: Predictions, *, method: str, prior: np.ndarray, calibration: Predictions | None = None
) -> tuple[Predictions, np.ndarray]:
    """Recompute predictions for the class prior that is estimated from them.

    The predicted class becomes the most probable one. p_positive follows the class probabilities where every class is
    known to be positive or negative.

    Args:
        predictions: of one class per image.
        method: a name in `METHODS`.
        prior: [classes], the prior that the probabilities are calibrated for.
        calibration: predictions on the calibration images, which "bbse" needs.

    Returns:
        (corrected predictions, estimated prior [classes]).

    Raises:
        UserError: for an unknown method, several labels, or missing calibration predictions.
    """
    check_method(method)
    if predictions.multi_label:
        raise UserError("label shift can be corrected for one class per photograph, not for several labels")
    estimated = METHODS[method](predictions, np.asarray(prior, float), calibration)
    probabilities = shift_prior(predictions.probabilities, prior, estimated)
    changes: dict[str, Any] = {
        "probabilities": probabilities,
        "predicted": probabilities.argmax(axis=1),
        "prediction_intervals": None,
    }
    is_positive = predictions.class_is_positive()
    if None not in is_positive:
        p_positive = np.clip(probabilities[:, np.array(is_positive, bool)].sum(axis=1), 0, 1)
        refer = p_positive >= predictions.threshold
        changes |= {"p_positive": p_positive, "refer": refer}
        if predictions.action is not None:
            changes["action"] = np.where(np.asarray(predictions.gradable), np.where(refer, "refer", "clear"), "retake")
    return dataclasses.replace(predictions, **changes), estimated
