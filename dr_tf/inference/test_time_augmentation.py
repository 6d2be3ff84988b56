"""Test-time augmentation: mirrored and rotated views of an image, whose predictions are averaged.

A grade does not depend on how the retina is oriented.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dr_tf.inference.network import ImageBatch

# Each count of views is a mathematical group: the views of a mirrored or rotated image are the same set.
VIEW_COUNTS = (1, 2, 4, 8)


def augmented_view(images: ImageBatch, index: int) -> ImageBatch:
    """Return one of the eight views of a batch.

    View 0 is the original, 1 is mirrored, 2 is upside down, 3 is rotated by 180 degrees. Views 4 to 7 are the same
    after a transposition.

    Args:
        images: [n, side, side, 3], or a dict of both eyes, their presence and values of the patient. A mirrored left eye looks like a right
            eye, so a mirrored view of a pair also swaps the eyes.
        index: the number of the view, from 0 to 7.
    """
    if not isinstance(images, Mapping):
        return _transform(images, index)
    mirrored = bin(index).count("1") % 2 == 1
    swapped = {name: images[_other_eye(name)] for name in images} if mirrored else images
    return {name: _transform(x, index) if len(x.shape) == 4 else x for name, x in swapped.items()}


def _transform(images, index):
    if index == 0:
        return images
    x = np.asarray(images)
    x = x.swapaxes(1, 2) if index & 4 else x
    return x[:, :: -1 if index & 2 else 1, :: -1 if index & 1 else 1]


def _other_eye(name):
    """The name of the same input of the other eye; what is no input of one eye, such as the age, stays."""
    eye, _, suffix = name.partition("_")
    return {"left": "right", "right": "left"}.get(eye, eye) + (f"_{suffix}" if suffix else "")
