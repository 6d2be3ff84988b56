"""`ops_for`: the same formulas on Keras tensors and, where TensorFlow is not installed, on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def ops_for(x: Any) -> Any:
    """Return `keras.ops`, or for a NumPy array functions of the same names that compute with NumPy."""
    if isinstance(x, np.ndarray):
        return NumpyOps
    from keras import ops

    return ops


class NumpyOps:
    """The functions of `keras.ops` that heads use to compute evidence."""

    take, maximum, concatenate = staticmethod(np.take), staticmethod(np.maximum), staticmethod(np.concatenate)
    cumsum, mean, log, expm1 = (
        staticmethod(np.cumsum),
        staticmethod(np.mean),
        staticmethod(np.log),
        staticmethod(np.expm1),
    )

    @staticmethod
    def log_sigmoid(x: np.ndarray) -> np.ndarray:
        """Compute log(sigmoid(x)) without overflow."""
        return -np.logaddexp(0, -x)

    @staticmethod
    def logsumexp(x: np.ndarray, axis: int) -> np.ndarray:
        """Compute log(sum(exp(x))) along an axis without overflow."""
        return np.logaddexp.reduce(x, axis=axis)
