"""The Network protocol: what prediction needs of a trained network. A Keras model is one implementation."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Protocol

import numpy as np

# uint8 RGB [n, side, side, 3]. For networks that take both eyes: such arrays as "left" and "right", with bool [n]
# arrays "left_present" and "right_present" beside them.
ImageBatch = np.ndarray | Mapping[str, np.ndarray]


class Network(Protocol):
    """A function from images to logits and features, with the attributes needed to prepare its inputs."""

    @property
    def image_size(self) -> int:
        """The side of the input images in pixels."""

    @property
    def width(self) -> int:
        """The number of features."""

    @property
    def paired(self) -> bool:
        """Whether the network takes both eyes of a patient."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs."""

    @property
    def description(self) -> str:
        """The name and size of the network in a few words."""

    def __call__(self, images: ImageBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Compute ({output: logits [n, ...]}, features [n, width]) as float32."""

    def members(self, features: np.ndarray) -> dict[str, np.ndarray] | None:
        """Compute {output: logits [members, n, ...]} of each member of an ensemble; None for a single network."""


def load_network(path: str | os.PathLike) -> Network:
    """Load the network of a run from its Keras model file.

    Raises:
        UserError: the file cannot be read as a model.
    """
    from dr_tf.models.network import KerasNetwork  # imports TensorFlow

    return KerasNetwork.load(pathlib.Path(path))
