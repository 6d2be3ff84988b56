"""Fits the colour scale of a run's class-activation maps, so that colours compare between images, and writes it."""

import os
from typing import Any

import numpy as np

from dr_tf.data.batches import image_batches
from dr_tf.data.images import ImageLoader
from dr_tf.explain.colour_scale import fit_scale, write_scale
from dr_tf.explain.explainer import Explainer

_MAX_IMAGES = 256


def fit_map_scale(
    run_dir: str | os.PathLike,
    explainer: Explainer,
    *,
    images: ImageLoader,
    fit_rows: np.ndarray,
    calibration_rows: np.ndarray,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Fit the colour scale on calibration images, or on training images if there are none, and write it to the run.

    Args:
        run_dir: the run directory.
        explainer: explainer of the run's model.
        images: images of the record set at the model's size.
        fit_rows: row numbers of the training examples.
        calibration_rows: row numbers of the calibration examples.
        seed: seed of the random part of the examples that is used.
        batch_size: images per batch.

    Returns:
        The scale, as `dr_tf.explain.colour_scale.fit_scale` returns it.
    """
    rows = calibration_rows if len(calibration_rows) else fit_rows
    subset = np.sort(np.random.default_rng(seed).permutation(rows)[:_MAX_IMAGES])
    scale = fit_scale(explainer, (x for x, _ in image_batches(images, rows=subset, batch_size=batch_size)))
    write_scale(run_dir, scale)
    return scale
