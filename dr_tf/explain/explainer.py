"""`Explainer`: logits, evidence and maps of images, by any of the methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_tf.explain.evidence_network import EvidenceNetwork
from dr_tf.explain.explanation import POSITIVE, Explanation, Images, target_index
from dr_tf.explain.methods import DEFAULT_METHOD, find_method
from dr_tf.models.heads.head import Head
from dr_tf.models.in_float32 import in_float32
from dr_tf.models.layers.replace_layers import replace_unsafe_convolutions
from dr_tf.models.network import image_size_of, output_names

_MIN_PROBABILITY = 1e-12  # so that a map keeps its shape even if the predicted probability is 0


class Explainer:
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
        x = tf.nest.map_structure(tf.convert_to_tensor, images)
        n = tf.nest.flatten(x)[0].shape[0]
        targets = [target] * n if isinstance(target, (str, int)) else target
        indices = tf.constant([self.target_index(one) for one in targets], tf.int32)
        result = self._computer(x, indices)
        p = self._probabilities(result.evidence)
        amounts = tf.maximum(tf.gather(p, indices, batch_dims=1), _MIN_PROBABILITY)
        maps = _normalize({eye: tf.nn.relu(of_eye) for eye, of_eye in result.maps.items()}, amounts)
        outputs, features, maps = tf.nest.map_structure(lambda t: t.numpy(), (result.outputs, result.features, maps))
        return Explanation(
            outputs,
            features,
            self._by_target(result.evidence.numpy()),
            self._by_target(p.numpy()),
            maps if isinstance(x, dict) else maps[None],
        )

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
        x = tf.nest.map_structure(tf.convert_to_tensor, images)
        return self._network(x)[2].numpy()[:, self.target_index(target)]

    def target_index(self, target: str | int) -> int:
        """Return the index of a target, given by name or class number, in `targets`. The classes come first.

        Raises:
            UserError: There is no such target.
        """
        return target_index(self.head, self.targets, target)

    def _probabilities(self, evidence):
        """Evidence is log-odds, except for more than two exclusive classes, where it is the logits of a softmax."""
        n = len(self.head.classes)
        if not self.head.exclusive or n == 2:
            return tf.sigmoid(evidence)
        return tf.concat([tf.nn.softmax(evidence[:, :n]), tf.sigmoid(evidence[:, n:])], axis=1)

    def _by_target(self, values):
        return dict(zip(self.targets, values.T, strict=True))


def _normalize(maps, amounts):
    """Scale {eye: maps} so that the means of an example's maps add up to its amount."""
    means = tf.add_n([tf.reduce_mean(m, axis=(1, 2)) for m in maps.values()])
    return {eye: m * tf.math.divide_no_nan(amounts, means)[:, None, None] for eye, m in maps.items()}
