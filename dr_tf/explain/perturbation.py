"""Maps from changed photographs: Score-CAM, occlusion and integrated gradients.

Evidence is removed by the blur of `dr_tf.explain.blurring`, as black areas would be abnormalities of their own. The
functions take the images of one eye, float32 [n, side, side, 3], and return a map [n, h, w], before ReLU. `score` and
`gradient` take such images and return the evidence of each example, [n], or its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.activations import MapLayer, find_layer
from dr_tf.explain.blurring import blur
from dr_tf.explain.evidence_network import ByEye, EvidenceNetwork, MapResult, Traced, images_by_eye, replace_images
from dr_tf.explain.layer_maps import mean_of_members, record_by_eye
from dr_tf.explain.occlusion import occlusion
from dr_tf.explain.recording import to_feature_map
from dr_tf.models.network import member_networks

Function = Callable[[Any], Any]
_CHANNELS = 64  # that Score-CAM uses at most: a late layer has hundreds, and each needs a pass through the network
_STEPS = 32  # of integrated gradients


def score_cam(
    activations: tf.Tensor, images: tf.Tensor, blurred: tf.Tensor, score: Function, *, channels: int = _CHANNELS
) -> tf.Tensor:
    """Weight each channel by the evidence in the part of the image where it is active (Wang et al., CVPRW 2020).

    For each channel the image is blurred except where the channel, scaled to 0 to 1, is high. The softmax of the gains
    in evidence over the blurred image are the weights.

    Args:
        activations: [n, h, w, channels].
        images: The images.
        blurred: The images without evidence.
        score: Computes the evidence of images.
        channels: Of more channels than this, only those with the largest variance over the image are used.
    """
    activations = _most_variable(activations, channels)
    low, high = (reduce(activations, axis=(1, 2), keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    masks = tf.math.divide_no_nan(activations - low, high - low)
    before, size, gains = score(blurred), images.shape[1:3], []
    for channel in range(activations.shape[-1]):
        mask = tf.image.resize(masks[..., channel : channel + 1], size)
        gains.append(score(mask * images + (1 - mask) * blurred) - before)
    varies = (high > low)[:, 0, 0]
    weights = tf.nn.softmax(tf.where(varies, tf.stack(gains, axis=1), -np.inf), axis=1)
    weights = tf.where(varies & tf.reduce_any(images != blurred, axis=(1, 2, 3))[:, None], weights, 0)
    return tf.reduce_sum(weights[:, None, None] * activations, axis=-1)


def _most_variable(activations, channels):
    variances = tf.math.reduce_variance(activations, axis=(1, 2))
    chosen = tf.math.top_k(variances, min(channels, activations.shape[-1])).indices
    return tf.gather(activations, chosen, axis=3, batch_dims=1)


def integrated_gradients(
    images: ByEye, blurred: ByEye, gradient: Callable[[ByEye], ByEye], *, steps: int = _STEPS
) -> ByEye:
    """Integrate the gradients from the blurred to the given images (Sundararajan et al., ICML 2017).

    The values of all pixels add up to the difference in evidence between both, up to the error of the integration.

    Args:
        images: {eye: images}.
        blurred: {eye: images without evidence}.
        gradient: Computes {eye: gradient of the evidence} of {eye: images}.
        steps: Steps of the integration, by the midpoint rule.

    Returns:
        {eye: map}.
    """
    changes = {eye: images[eye] - blurred[eye] for eye in images}
    sums = {eye: tf.zeros_like(change) for eye, change in changes.items()}
    for step in range(steps):
        share = (step + 0.5) / steps
        gradients = gradient({eye: blurred[eye] + share * change for eye, change in changes.items()})
        sums = {eye: total + gradients[eye] for eye, total in sums.items()}
    return {eye: tf.reduce_sum(change * sums[eye] / steps, axis=-1) for eye, change in changes.items()}


class ScoreCamMaps:
    """Computes Score-CAM at one layer.

    Args:
        network: The network and its evidence.
        layer: The layer, as `find_layer` takes it.
    """

    def __init__(self, network: EvidenceNetwork, layer: str | None):
        self.layers = [find_layer(member, layer) for member in member_networks(network.model)]
        self.layer_name = self.layers[0].name
        self._network, self._run = network, Traced(self._record)

    def __call__(self, x: Any, target_indices: tf.Tensor) -> MapResult:
        """Compute the maps of a batch."""
        outputs, features, evidence, activations = self._run(x, target_indices)
        images = images_by_eye(x)
        blurred = blurred_images(images)
        members = []
        for of_member in activations:
            by_eye = of_member if isinstance(x, dict) else {None: of_member}
            members.append({
                eye: tf.nn.relu(score_cam(by_eye[eye], images[eye], blurred[eye],
                                          _score_of_eye(self._network, x, target_indices, eye)))
                for eye in images
            })  # fmt: skip
        return MapResult(outputs, features, evidence, mean_of_members(members))

    def _record(self, x, target_indices):
        forward, activations, _ = record_by_eye(self._network, self.layers, x, target_indices)
        maps = [
            {
                eye: to_feature_map(tensor, layer.name, mirrored=eye in self._network.mirrored)
                for eye, tensor in of_layer.items()
            }
            for layer, of_layer in zip(self.layers, activations, strict=True)
        ]
        return *forward, maps if isinstance(x, dict) else [of_member[None] for of_member in maps]


class PixelMaps:
    """Base class of methods that work on the pixels and use no layer.

    Args:
        network: The network and its evidence.
        layer: None.

    Raises:
        UserError: A layer is named.
    """

    layer_name = "pixels"

    def __init__(self, network: EvidenceNetwork, layer: str | None):
        if layer is not None:
            raise UserError(f"this method changes the pixels of the photograph: a layer ({layer!r}) cannot be chosen")
        self.layers: list[MapLayer] = []
        self.network = network

    def __call__(self, x: Any, target_indices: tf.Tensor) -> MapResult:
        """Compute the maps of a batch."""
        images = images_by_eye(x)
        return MapResult(*self.network(x), self.maps(x, images, blurred_images(images), target_indices))

    def maps(self, x: Any, images: ByEye, blurred: ByEye, target_indices: tf.Tensor) -> ByEye:
        """Compute {eye: maps [n, h, w]}."""
        raise NotImplementedError


class OcclusionMaps(PixelMaps):
    """Computes occlusion, for each eye with the other one unchanged."""

    def maps(self, x: Any, images: ByEye, blurred: ByEye, target_indices: tf.Tensor) -> ByEye:
        """Compute {eye: maps [n, h, w]}."""
        return {
            eye: occlusion(images[eye], blurred[eye], _score_of_eye(self.network, x, target_indices, eye))
            for eye in images
        }


class IntegratedGradientsMaps(PixelMaps):
    """Computes integrated gradients, for both eyes along one path."""

    def maps(self, x: Any, images: ByEye, blurred: ByEye, target_indices: tf.Tensor) -> ByEye:
        """Compute {eye: maps [n, h, w]}."""
        return integrated_gradients(
            images, blurred, lambda changed: self.network.gradient(replace_images(x, changed), target_indices)
        )


def blurred_images(images: ByEye) -> ByEye:
    """Blur all images, {eye: float32 [n, side, side, 3]}."""
    return {
        eye: tf.constant(np.stack([blur(image) for image in np.asarray(of_eye).astype(np.uint8)]), tf.float32)
        for eye, of_eye in images.items()
    }


def _score_of_eye(network: EvidenceNetwork, x: Any, target_indices: tf.Tensor, eye: str | None) -> Function:
    """A function from images of one eye to the evidence, with everything else in the batch unchanged."""

    def score(images):
        return network.score(replace_images(x, {eye: tf.convert_to_tensor(images)}), target_indices)

    return score
