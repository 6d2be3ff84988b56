"""`Explainer`: logits, evidence and maps of images, by any of the methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_tf.explain.evidence_network import EvidenceNetwork
from dr_tf.explain.explanation import POSITIVE, BaseExplainer, Explanation, Images
from dr_tf.explain.methods import DEFAULT_METHOD, find_method
from dr_tf.models.heads.head import Head
from dr_tf.models.in_float32 import in_float32
from dr_tf.models.layers.replace_layers import replace_unsafe_convolutions
from dr_tf.models.network import image_size_of, output_names, select_inputs


class Explainer(BaseExplainer):
    """Computes an `Explanation` of images: `explainer(images, target)`.

    Args:
        model: The network.
        head: The head to explain.
        output: Name of the output that belongs to the head; by default the first one.
        method: A name in `methods.METHODS`.
        layer: The layer to compute maps from, as `find_layer` takes it; None for a method that uses no layer.

    Attributes:
        model: The network, or a float32 copy of it with safe gradients.
        outputs_are_exact: Whether outputs equal those of the given network to the last digit, i.e. no copy was needed.
        targets: Names of the targets, as in `head.evidence`: classes, "grade >= k", and "positive".
        title: Name of the method in the literature.
        by_target: Whether the map depends on the target.
        is_slow: Whether the method runs the network many times for each map.
        layer_name: What the maps are computed from: a layer, or "pixels". For an ensemble that of its first member.

    Raises:
        UserError: The method or layer does not exist, or the method does not fit the network.
    """

    def __init__(
        self,
        model: keras.Model,
        head: Head,
        *,
        output: str | None = None,
        method: str = DEFAULT_METHOD,
        layer: str | None = None,
    ):
        found = find_method(method)
        self.model = replace_unsafe_convolutions(in_float32(model))
        self.outputs_are_exact = self.model is model
        self.head, self.method, self._layer = head, method, layer
        self.output = output or output_names(self.model)[0]
        self._network = EvidenceNetwork(self.model, head, self.output)
        self.targets = self._network.targets
        self._computer = found.build(self._network, layer)
        self.is_slow, self.title, self.by_target = found.slow, found.title, found.by_target
        self.layer_name = self._computer.layer_name

    def __call__(self, images: Images, target: str | int | Sequence[str | int] = POSITIVE) -> Explanation:
        """Explain a batch.

        Args:
            images: RGB 0-255, [n, side, side, 3]; for a paired network a dict as it takes it.
            target: The target for all examples, or one per example: a name in `targets`, or the number of a class. The
                target is an input of the traced functions, so one trace serves all of them.

        Raises:
            UserError: A target does not exist, or the layer gives no map.
        """
        x = tf.nest.map_structure(tf.convert_to_tensor, select_inputs(self.model, images))
        indices = self.target_indices(target, tf.nest.flatten(x)[0].shape[0])
        result = self._computer(x, tf.constant(indices))
        outputs, features, evidence, maps = tf.nest.map_structure(
            np.asarray, (result.outputs, result.features, result.evidence, result.maps)
        )
        return self.explanation(outputs, features, evidence, maps, indices)

    @property
    def image_size(self) -> int:
        """The side of the images in pixels."""
        return image_size_of(self.model)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What is equal only for explainers of the same maps of one network, whatever name the layer was given by."""
        return self.method, *((id(layer.layer), layer.part) for layer in self._computer.layers)

    def for_model(self, model: keras.Model) -> Explainer:
        """Build the same explainer for another network with the same layers."""
        return Explainer(model, self.head, output=self.output, method=self.method, layer=self._layer)

    def evidence(self, images: Images, target: str | int = POSITIVE) -> np.ndarray:
        """Compute the evidence for a target, [n], without maps."""
        x = tf.nest.map_structure(tf.convert_to_tensor, select_inputs(self.model, images))
        return self._network(x)[2].numpy()[:, self.target_index(target)]
