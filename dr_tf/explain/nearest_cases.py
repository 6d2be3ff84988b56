"""Explain a decision by the training cases whose features are nearest to those of the case."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.case import Case
from dr_tf.inference.decision import Decision
from dr_tf.inference.nearest_neighbours import Neighbours
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.run import NEIGHBOURS, open_neighbours, read_calibration

NEAREST_CASES = "nearest_cases"  # name of the method
K = 5


@dataclasses.dataclass(frozen=True)
class TrainingCase:
    """A training case near the explained one.

    Attributes:
        name: SET/NAME of the photograph, or of the patient for pairs; None if the run stores no names.
        label: Its class; of several labels those that it has.
        distance: The Euclidean distance of its features.
    """

    name: str | None
    label: str
    distance: float


class NearestCases:
    """Finds the training cases of a run that are nearest to features.

    Args:
        neighbours: Features and labels of the training cases.
        classes: Names of the classes or labels.
        names: SET/NAME of each training case, or None.
    """

    def __init__(self, neighbours: Neighbours, classes: tuple[str, ...], names: np.ndarray | None):
        self._neighbours, self._classes, self._names = neighbours, classes, names

    @classmethod
    def from_run(cls, run_dir: str | os.PathLike, predictor: Predictor) -> NearestCases:
        """Read the training features of a run, and the names of the training cases where the run stores them.

        Raises:
            UserError: The run has no training features, or they are of another network.
        """
        if not os.path.exists(os.path.join(run_dir, NEIGHBOURS)):
            raise UserError(
                f"{NEAREST_CASES}: the run has no {NEIGHBOURS}; add 'knn' to train.modes and run its training command again"
            )
        head = predictor.rule.head
        neighbours = open_neighbours(run_dir, head, predictor.run.network)
        calibration = read_calibration(run_dir)
        names = None if calibration is None else calibration[1].get("fitted_names")
        return cls(
            neighbours, tuple(head.classes), names if names is not None and len(names) == len(neighbours) else None
        )

    def __call__(self, features: np.ndarray, k: int = K) -> list[list[TrainingCase]]:
        """Return the k nearest training cases of each row of features, the nearest first."""
        return [
            [self._case(int(row), float(distance)) for row, distance in zip(*of_case, strict=True)]
            for of_case in zip(*reversed(self._neighbours.nearest(features, k)), strict=True)
        ]

    def _case(self, row, distance):
        labels = [
            name for name, known in zip(self._classes, self._neighbours.one_hot_labels[row], strict=True) if known
        ]
        name = None if self._names is None else str(self._names[row])
        return TrainingCase(name, ", ".join(labels) or "none of the labels", distance)


def decide_with_nearest_cases(
    predictor: Predictor, nearest: NearestCases, cases: Iterable[Case], k: int = K
) -> Iterator[tuple[Decision, list[TrainingCase] | None]]:
    """Decide on cases and find the training cases nearest to each.

    Args:
        predictor: The predictor.
        nearest: The training cases of its run.
        cases: The cases.
        k: How many training cases.

    Yields:
        (decision, training cases or None if the case had no usable image), in order.
    """
    for decided in predictor.decisions_with_images(cases):
        features = decided.features
        yield decided.decision, None if features is None else nearest(features[None], k)[0]
