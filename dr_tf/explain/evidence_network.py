"""`EvidenceNetwork`: a network with the evidence that its logits give for the targets of one head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from dr_tf.models.cross_attention import mirrored_eyes
from dr_tf.models.heads.head import Head
from dr_tf.models.network import features_tensor

ByEye = dict[str | None, Any]  # {eye: tensor}; the eye of single images is None


@dataclasses.dataclass(frozen=True)
class MapResult:
    """What a method computes for a batch.

    Attributes:
        outputs: {output: logits [n, ...]}.
        features: [n, width].
        evidence: [n, targets].
        maps: {eye: [n, h, w]}, on any scale; only positive values are shown.
    """

    outputs: dict[str, tf.Tensor]
    features: tf.Tensor
    evidence: tf.Tensor
    maps: ByEye


class EvidenceNetwork:
    """Runs a network and computes the evidence for targets, and its gradients.

    Args:
        model: The network.
        head: The head whose targets are explained.
        output: Name of the output that belongs to the head.

    Attributes:
        functional: The network from images to [outputs, features].
        targets: Names of the targets, as in `head.evidence`.
        mirrored: The eyes whose image the network mirrors.
    """

    def __init__(self, model: keras.Model, head: Head, output: str):
        self.model, self.head, self.output = model, head, output
        self.functional = keras.Model(model.input, [model.output, features_tensor(model)])
        self.mirrored = mirrored_eyes(model)
        self.targets = tuple(head.evidence(keras.ops.zeros((1, head.outputs))))
        self._run = Traced(self._forward)
        self._score = Traced(lambda x, indices: _select(self._forward(x)[2], indices))
        self._gradient = Traced(self._image_gradient)

    def __call__(self, x: Any) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """Compute (outputs, features, evidence [n, targets]) of a batch."""
        return self._run(x)

    def score(self, x: Any, target_indices: tf.Tensor) -> tf.Tensor:
        """Compute the evidence of each example for its own target, [n]."""
        return self._score(x, target_indices)

    def gradient(self, x: Any, target_indices: tf.Tensor) -> ByEye:
        """Compute the gradients of `score` with respect to the images, {eye: [n, side, side, 3]}."""
        gradients = self._gradient(x, target_indices)
        return gradients if isinstance(gradients, dict) else {None: gradients}

    def evidence_of(self, outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Stack the evidence for all targets, [n, targets]."""
        return tf.stack(list(self.head.evidence(outputs[self.output]).values()), axis=1)

    def total_score(self, evidence: tf.Tensor, target_indices: tf.Tensor) -> tf.Tensor:
        """Sum the scores of all examples: they do not depend on each other, so its gradient contains that of each."""
        return tf.reduce_sum(_select(evidence, target_indices))

    def _forward(self, x):
        outputs, features = self.functional(x, training=False)
        return outputs, features, self.evidence_of(outputs)

    def _image_gradient(self, x, target_indices):
        images = images_by_eye(x)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            evidence = self._forward(replace_images(x, images))[2]
            total = self.total_score(evidence, target_indices)
        gradients = tape.gradient(total, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return gradients if isinstance(x, dict) else gradients[None]


class Traced:
    """A traced function that is traced once for batches of any size."""

    def __init__(self, function: Callable[..., Any]):
        self.function = tf.function(function, autograph=False)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        specs = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), arguments)
        return self.function.get_concrete_function(*specs)(*arguments)


def _select(evidence, target_indices):
    return tf.gather(evidence, target_indices, batch_dims=1)


def images_by_eye(x: Any) -> ByEye:
    """Return the images of a batch as float32, {eye: [n, side, side, 3]}."""
    images = x if isinstance(x, dict) else {None: x}
    return {eye: tf.cast(value, tf.float32) for eye, value in images.items() if len(value.shape) == 4}


def replace_images(x: Any, images: Mapping[str | None, Any]) -> Any:
    """Return a batch with other images, {eye: images}."""
    return {**x, **images} if isinstance(x, dict) else images[None]
