"""Head that predicts the five ICDR grades as classes."""

import dataclasses
from typing import ClassVar

import numpy as np

from dr_tf.grades import GRADES
from dr_tf.models.heads.one_hot import OneHot


@dataclasses.dataclass(frozen=True)
class Softmax(OneHot):
    """Softmax over the five grades."""

    name: ClassVar[str] = "softmax"
    field: ClassVar[str] = "grade"
    monitor: ClassVar[tuple[str, str]] = ("val_quadratic_kappa", "max")
    classes: ClassVar[tuple[str, ...]] = GRADES

    def grade(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the most probable grade, int [n]."""
        return np.argmax(probabilities, axis=-1)
