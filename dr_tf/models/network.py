"""`KerasNetwork`: a Keras model behind the `Network` protocol of inference, and queries on such models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_tf.archives import UNREADABLE, check_archive
from dr_tf.console import UserError
from dr_tf.models.classifier import FEATURES
from dr_tf.models.keras_private import output_in_graph

# Prefix of the layers of an ensemble that contain the logits of each member, [n, members, logits].
MEMBERS_PREFIX = "members_"


class KerasNetwork:
    """Runs a Keras model; implements `dr_tf.inference.network.Network`.

    Attributes:
        model: The Keras model.
        outputs: Names of its outputs.
        width: Number of features.
    """

    runtime = "TensorFlow"

    def __init__(self, model: keras.Model):
        self.model = model
        self.outputs = output_names(model)
        features = features_tensor(model)
        with_features = keras.Model(model.input, [model.output, features])
        self._run = tf.function(lambda x: with_features(x, training=False), reduce_retracing=True)
        members = (
            {name: model.get_layer(MEMBERS_PREFIX + name).output for name in self.outputs}
            if is_ensemble(model)
            else None
        )
        self._members = None if members is None else keras.Model(features, members)
        self.width = features.shape[-1]

    @classmethod
    def load(cls, path: str | os.PathLike) -> KerasNetwork:
        """Load a `.keras` file in Keras' safe mode.

        Raises:
            UserError: The file cannot be loaded, or the model does not have named outputs and features.
        """
        try:
            check_archive(path)
            return cls(keras.saving.load_model(path, compile=False, safe_mode=True))
        except UNREADABLE as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{path} cannot be loaded as a Keras model: {reason}") from None

    @property
    def image_size(self) -> int:
        """The side of the images that the model takes, in pixels."""
        return image_size_of(self.model)

    @property
    def paired(self) -> bool:
        """Whether the model takes both eyes of a patient."""
        return is_paired(self.model)

    @property
    def ensemble(self) -> bool:
        """Whether the model is an ensemble, whose outputs are averages."""
        return is_ensemble(self.model)

    @property
    def members_count(self) -> int:
        """The number of members of an ensemble; 0 for a single network."""
        return len(member_networks(self.model)) if self.ensemble else 0

    @property
    def description(self) -> str:
        """Name and size of the model, for reports."""
        return f"{self.model.name}, {self.model.count_params():,} weights"

    def __call__(self, images: np.ndarray | Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Predict a batch.

        Args:
            images: uint8 RGB [n, side, side, 3]; for a paired model a dict with at least its inputs.

        Returns:
            ({output: logits}, features) as float32.
        """
        outputs, features = self._run(select_inputs(self.model, images))
        return {name: logits.numpy() for name, logits in outputs.items()}, features.numpy()

    def members(self, features: np.ndarray) -> dict[str, np.ndarray] | None:
        """Compute {output: logits [members, n, logits]} of the members of an ensemble; None for a single network."""
        if self._members is None:
            return None
        return {name: logits.numpy().swapaxes(0, 1) for name, logits in self._members(features).items()}


def output_names(model: keras.Model) -> tuple[str, ...]:
    """Return the names of a model's outputs.

    Raises:
        UserError: The outputs do not have names.
    """
    if not isinstance(model.output, dict):
        raise UserError(f"the model {model.name} has no named outputs: it was not made by this version of dr_tf")
    return tuple(model.output)


def features_tensor(model: keras.Model) -> keras.KerasTensor:
    """Return the tensor that all output layers take.

    Raises:
        UserError: The model does not have a layer of that name.
    """
    try:
        return output_in_graph(model, model.get_layer(FEATURES))
    except ValueError:
        raise UserError(f"the model {model.name} has no layer {FEATURES!r}: it was not made by dr_tf") from None


def image_size_of(model: keras.Model) -> int:
    """Return the side, in pixels, of the images that a model of one or both eyes takes."""
    return next(tensor.shape[1] for tensor in model.inputs if len(tensor.shape) == 4)


def is_paired(model: keras.Model) -> bool:
    """Whether a model takes both eyes of a patient."""
    return isinstance(model.input, dict)


def select_inputs(model: keras.Model, images: Any) -> Any:
    """Return a batch without what a paired model does not take, such as the age; Keras refuses other names."""
    return {name: images[name] for name in model.input} if is_paired(model) else images


def is_ensemble(model: keras.Model) -> bool:
    """Whether a model was built by `dr_tf.models.ensemble`."""
    return any(layer.name.startswith(MEMBERS_PREFIX) for layer in model.layers)


def member_networks(model: keras.Model) -> list[keras.Model]:
    """Return the members of an ensemble, without their output layers; for a single network the network itself."""
    if not is_ensemble(model):
        return [model]
    # An output layer may be a network, too, but one that does not take images.
    networks = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return [network for network in networks if any(len(tensor.shape) == 4 for tensor in network.inputs)]
