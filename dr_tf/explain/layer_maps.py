"""Maps from the activations of a layer and the gradients there: Grad-CAM, Grad-CAM++ and HiResCAM.

The functions take the activations of a layer and the gradients of the target's evidence there, both [n, h, w,
channels], and return a map float32 [n, h, w], before ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.activations import MapLayer, find_layer
from dr_tf.explain.evidence_network import ByEye, EvidenceNetwork, MapResult, Traced, images_by_eye
from dr_tf.explain.recording import record_activations, to_feature_map
from dr_tf.models.network import member_networks

LayerFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def grad_cam(activations: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Weight each channel by its mean gradient (Selvaraju et al., ICCV 2017)."""
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * activations, axis=-1)


def grad_cam_plus_plus(activations: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Weight each channel by a weighted mean of its positive gradients (Chattopadhay et al., WACV 2018).

    The score of the paper is the exponential of the evidence. Its higher derivatives are then powers of the gradient,
    times a positive factor that has no effect on the shape of the map.
    """
    # The cube of a small gradient would underflow in float32, so gradients are divided by the largest. ReLU on the
    # sums: the formula assumes activations that are not negative.
    largest = tf.reduce_max(tf.abs(gradients), axis=(1, 2, 3), keepdims=True)
    gradients = tf.math.divide_no_nan(gradients, largest)
    activation_sums = tf.nn.relu(tf.reduce_sum(activations, axis=(1, 2), keepdims=True))
    alphas = tf.math.divide_no_nan(gradients**2, 2 * gradients**2 + largest * activation_sums * gradients**3)
    weights = tf.reduce_sum(alphas * tf.nn.relu(gradients), axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * activations, axis=-1)


def hires_cam(activations: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Multiply activations and gradients pixel by pixel (Draelos and Carin, 2020).

    Such a map shows only locations that the evidence was computed from.
    """
    return tf.reduce_sum(gradients * activations, axis=-1)


class LayerMaps:
    """Computes a map from the activations of one layer and the gradients there.

    Args:
        network: The network and its evidence.
        layer: The layer, as `find_layer` takes it.
        function: One of the functions above.
    """

    def __init__(self, network: EvidenceNetwork, layer: str | None, function: LayerFunction):
        self.layers = [find_layer(member, layer) for member in member_networks(network.model)]
        self.layer_name = self.layers[0].name
        self._network, self._function = network, function
        self._run = Traced(self._maps)

    def __call__(self, x: Any, target_indices: tf.Tensor) -> MapResult:
        """Compute the maps of a batch."""
        outputs, features, evidence, maps = self._run(x, target_indices)
        return MapResult(outputs, features, evidence, maps if isinstance(x, dict) else {None: maps})

    def _maps(self, x, target_indices):
        forward, activations, gradients = record_by_eye(self._network, self.layers, x, target_indices)
        members = [
            {eye: self._map(layer.name, eye, of_eye, of_layer[1][eye]) for eye, of_eye in of_layer[0].items()}
            for layer, of_layer in zip(self.layers, zip(activations, gradients, strict=True), strict=True)
        ]
        maps = mean_of_members(members)
        return *forward, maps if isinstance(x, dict) else maps[None]

    def _map(self, name, eye, activations, gradients):
        if gradients is None:
            raise UserError(f"the prediction does not depend on {name}")
        mirrored = eye in self._network.mirrored
        both = (to_feature_map(tensor, name, mirrored=mirrored) for tensor in (activations, gradients))
        return tf.nn.relu(self._function(*both))


def record_by_eye(
    network: EvidenceNetwork, layers: Sequence[MapLayer], x: Any, target_indices: tf.Tensor
) -> tuple[tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor], list[ByEye], list[ByEye]]:
    """Run a network and record layers, for use inside a traced function.

    Args:
        network: The network and its evidence.
        layers: The layers.
        x: A batch as the network takes it.
        target_indices: The target of each example, [n].

    Returns:
        ((outputs, features, evidence), activations, gradients of each example's score). The last two contain {eye:
        tensor} for each layer. A gradient is None if the score does not depend on the layer.

    Raises:
        UserError: A layer is not called at all, or not once for each eye.
    """
    eyes = images_by_eye(x) if isinstance(x, dict) else {}
    tape = tf.GradientTape(persistent=bool(eyes), watch_accessed_variables=False)
    functional, recorded = record_activations(network.functional, layers, tape)
    with tape:
        tape.watch(eyes)
        outputs, features = functional(x | eyes if eyes else x, training=False)
        evidence = network.evidence_of(outputs)
        total = network.total_score(evidence, target_indices)
    gradients = tape.gradient(total, recorded)
    if unused := [layer.name for layer, tensors in zip(layers, recorded, strict=True) if not tensors]:
        raise UserError(f"the prediction does not depend on {unused[0]}")
    order = [_eyes_in_call_order(tape, tensors, eyes) if eyes else [None] for tensors in recorded]
    activations, gradients = (
        [dict(zip(names, tensors, strict=True)) for names, tensors in zip(order, of_layers, strict=True)]
        for of_layers in (recorded, gradients)
    )
    return (outputs, features, evidence), activations, gradients


def _eyes_in_call_order(tape, activations, eyes):
    """The eye of each recorded activation: the only input it depends on. The network may process eyes in any order."""
    owners = []
    for tensor in activations:
        gradients = tape.gradient(tensor, eyes)
        owners.append([eye for eye, gradient in gradients.items() if gradient is not None])
    if sorted(owners) != sorted([eye] for eye in eyes):
        raise UserError("that layer gives no map for each eye; name one before the features of both eyes are combined")
    return [owner for (owner,) in owners]


def mean_of_members(maps: Sequence[ByEye]) -> ByEye:
    """Average the maps of an ensemble's members, {eye: [n, h, w]} each, resized to the finest one."""
    return {eye: _mean([of_member[eye] for of_member in maps]) for eye in maps[0]}


def _mean(maps):
    if len(maps) == 1:
        return maps[0]
    size = max((tuple(m.shape[1:]) for m in maps), key=math.prod)
    return tf.reduce_mean([tf.image.resize(m[..., None], size)[..., 0] for m in maps], axis=0)
