"""Predictions of a network of both eyes for each eye alone, and how they are combined to one of the patient.

A network that was trained with one eye left out at times can predict from either eye. Which eye a label comes from is
then known, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import EYES
from dr_tf.inference.network import ImageBatch, Network

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head

EyeProbabilities = Mapping[str, np.ndarray]  # {eye: class probabilities [n, classes]}, NaN for an absent eye


def eye_probabilities(network: Network, images: ImageBatch, head: Head, output: str) -> dict[str, np.ndarray]:
    """Predict from each eye alone.

    Args:
        network: the network.
        images: a batch of pairs.
        head: the head of the output.
        output: the output.

    Returns:
        {eye: class probabilities [n, classes]}, not calibrated; NaN where the eye is absent.

    Raises:
        UserError: the network takes single images.
    """
    if not isinstance(images, Mapping):
        raise UserError("predictions for each eye alone need a network that takes both eyes of a patient")
    by_eye = {}
    for eye in EYES:
        there = np.asarray(images[f"{eye}_present"])
        alone = {**images, **{f"{other}_present": there & (other == eye) for other in EYES}}
        probabilities = head.probabilities(network(alone)[0][output])
        by_eye[eye] = np.where(there[:, None], probabilities, np.nan)
    return by_eye


def one_eye(by_eye: EyeProbabilities, head: Head) -> np.ndarray:
    """Return the prediction for the left eye; where it is absent for the right one."""
    del head
    return _filled(by_eye)[0]


def mean_eye(by_eye: EyeProbabilities, head: Head) -> np.ndarray:
    """Return the mean over the eyes that are present."""
    del head
    return np.mean(_filled(by_eye), axis=0)


def worse_eye(by_eye: EyeProbabilities, head: Head) -> np.ndarray:
    """Return the higher probability of each label; of exclusive classes the prediction with the higher p_positive."""
    left, right = _filled(by_eye)
    if not head.exclusive:
        return np.maximum(left, right)
    right_is_worse = head.p_positive(right) > head.p_positive(left)
    return np.where(right_is_worse[:, None], right, left)


def _filled(by_eye):
    """The predictions for both eyes; in place of an absent one those for the other."""
    values = [by_eye[eye] for eye in EYES]
    return [np.where(np.isnan(own), other, own) for own, other in zip(values, values[::-1], strict=True)]


WORSE_EYE = "worse_eye"  # the mode whose calibration also serves each eye alone

# Mode -> function from ({eye: class probabilities}, head) to the class probabilities of the patient.
COMBINATIONS: dict[str, Callable[[EyeProbabilities, Head], np.ndarray]] = {
    "one_eye": one_eye,
    "mean_eye": mean_eye,
    WORSE_EYE: worse_eye,
}
