"""What a network is to whoever predicts with it: a protocol, of which a Keras model is one."""

import pathlib
from typing import Protocol

import numpy as np


class Network(Protocol):
    """A function of photographs, with what has to be known to feed it.

    Attributes:
        image_size: the side of the photographs that it takes.
        width: the number of features.
        paired: whether it takes both eyes of a patient.
        outputs: the names of its outputs.
        description: what it is, in a few words.
    """

    image_size: int
    width: int
    paired: bool
    outputs: tuple[str, ...]
    description: str

    def __call__(self, images) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """({output: logits [n, ...]}, features [n, width]) as float32.

        Args:
            images: uint8 RGB [n, side, side, 3]; where `paired`, a dict of such as "left" and "right", with bool [n]
                "left_present" and "right_present" beside them.
        """

    def members(self, features) -> dict[str, np.ndarray] | None:
        """{output: logits [members, n, ...]} of each network of an ensemble; None where there is but one."""


def load_network(path) -> Network:
    """The network in a run's model file."""
    from dr_tf.models.network import KerasNetwork  # TensorFlow comes with it

    return KerasNetwork.load(pathlib.Path(path))
