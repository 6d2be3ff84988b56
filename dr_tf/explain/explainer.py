"""`Explainer`: logits, evidence and class-activation maps of images, in one forward and one backward pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.activations import MapLayer, find_layer, record_activations, to_feature_map
from dr_tf.explain.methods import DEFAULT_METHOD, METHODS
from dr_tf.models.heads.head import Head
from dr_tf.models.keras_private import layers_within
from dr_tf.models.layers.replace_layers import replace_unsafe_convolutions
from dr_tf.models.network import features_tensor, image_size_of, member_networks, output_names

POSITIVE = "positive"
_MIN_PROBABILITY = 1e-12  # so that a map keeps its shape even if the predicted probability is 0
_HALF_PRECISION = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")

Images = np.ndarray | Mapping[str, Any]  # [n, side, side, 3], or a dict for paired eyes


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Predictions and class-activation maps of n examples.

    A map distributes the predicted probability of the target over the image: its mean is that probability. Maps are
    therefore comparable between images, methods and layers: a value of 10 is ten times the uniform map of a prediction
    with a probability of 1. Only positive evidence is shown; if there is none at the layer, the map is 0 everywhere. Of
    paired eyes, the means of both maps add up to the probability. The map of an ensemble is the mean of its members'
    maps.

    Attributes:
        outputs: {output: logits [n, ...]}.
        features: The features [n, width] that the heads take.
        evidence: {target: log-odds or logit [n]}.
        probabilities: {target: predicted probability [n]}, without calibration.
        maps: [n, h, w], not negative; for paired eyes {eye: [n, h, w]}.
    """

    outputs: dict[str, np.ndarray]
    features: np.ndarray
    evidence: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]
    maps: np.ndarray | dict[str, np.ndarray]


class Explainer:
    """Computes an `Explanation` of images: `explainer(images, target)`.

    Args:
        model: The network.
        head: The head to explain.
        output: Name of the output that belongs to the head; by default the first one.
        method: A name in `methods.METHODS`.
        layer: The layer to compute maps from, as `find_layer` takes it.

    Attributes:
        model: The network, or a float32 copy of it with safe gradients.
        outputs_are_exact: Whether outputs equal those of the given network to the last digit, i.e. no copy was needed.
        targets: Names of the targets, as in `head.evidence`: classes, "grade >= k", and "positive".

    Raises:
        UserError: The method or layer does not exist.
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
        if method not in METHODS:
            raise UserError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
        self.model = replace_unsafe_convolutions(_in_float32(model))
        self.outputs_are_exact = self.model is model
        self.head, self.method, self._layer = head, method, layer
        self.output = output or output_names(self.model)[0]
        self._map_layers = [find_layer(member, layer) for member in member_networks(self.model)]
        self.targets = tuple(head.evidence(keras.ops.zeros((1, head.outputs))))
        self._network = keras.Model(self.model.input, [self.model.output, features_tensor(self.model)])
        self._run = tf.function(self._explain, autograph=False)
        self._run_evidence = tf.function(
            lambda x: self._evidence(self._network(x, training=False)[0][self.output]), autograph=False
        )

    def __call__(self, images: Images, target: str | int | Sequence[str | int] = POSITIVE) -> Explanation:
        """Explain a batch.

        Args:
            images: RGB 0-255, [n, side, side, 3]; for a paired network a dict as it takes it.
            target: The target for all examples, or one per example: a name in `targets`, or the number of a class. The
                target is an input of the traced function, so one trace serves all of them.

        Raises:
            UserError: A target does not exist, or the layer gives no map.
        """
        x = tf.nest.map_structure(tf.convert_to_tensor, images)
        n = tf.nest.flatten(x)[0].shape[0]
        targets = [target] * n if isinstance(target, (str, int)) else target
        arguments = x, tf.constant([self.target_index(one) for one in targets], tf.int32)
        run = self._run.get_concrete_function(*tf.nest.map_structure(_with_any_batch_size, arguments))
        outputs, features, evidence, p, maps = tf.nest.map_structure(lambda tensor: tensor.numpy(), run(*arguments))
        return Explanation(outputs, features, self._by_target(evidence), self._by_target(p), maps)

    @property
    def map_layer(self) -> MapLayer:
        """The layer that maps are computed from; for an ensemble that of its first member."""
        return self._map_layers[0]

    @property
    def image_size(self) -> int:
        """The side of the images in pixels."""
        return image_size_of(self.model)

    def for_model(self, model: keras.Model) -> Explainer:
        """Build the same explainer for another network with the same layers."""
        return Explainer(model, self.head, output=self.output, method=self.method, layer=self._layer)

    def evidence(self, images: Images, target: str | int = POSITIVE) -> np.ndarray:
        """Compute the evidence for a target, [n], without maps."""
        x = tf.nest.map_structure(tf.convert_to_tensor, images)
        return self._run_evidence(x).numpy()[:, self.target_index(target)]

    def target_index(self, target: str | int) -> int:
        """Return the index of a target, given by name or class number, in `targets`. The classes come first.

        Raises:
            UserError: There is no such target.
        """
        known = {str(i): i for i in range(len(self.head.classes))}
        known |= {name.replace(" ", ""): i for i, name in enumerate(self.targets)}
        plain = str(target).replace(" ", "")
        if plain not in known:
            numbers = f"0 to {len(self.head.classes) - 1}"
            raise UserError(
                f"unknown target {target!r}; there are {', '.join(self.targets)}, or a class's number {numbers}"
            )
        return known[plain]

    def _explain(self, x, target_indices):
        eyes = _image_inputs(x) if isinstance(x, dict) else {}
        tape = tf.GradientTape(persistent=bool(eyes), watch_accessed_variables=False)
        network, activations = record_activations(self._network, self._map_layers, tape)
        with tape:
            tape.watch(eyes)
            outputs, features = network(x | eyes if eyes else x, training=False)
            evidence = self._evidence(outputs[self.output])
            # Examples do not depend on each other, so the gradient of the sum contains the gradient of each.
            total = tf.reduce_sum(tf.gather(evidence, target_indices, batch_dims=1))
        gradients = tape.gradient(total, activations)
        # The keys of each member's maps: the eyes in the order of their calls, or None for a single image.
        eye_order = [_eyes_in_call_order(tape, recorded, eyes) if eyes else [None] for recorded in activations]
        by_member = [
            dict(zip(order, self._member_maps(*parts), strict=True))
            for order, parts in zip(eye_order, zip(self._map_layers, activations, gradients, strict=True), strict=True)
        ]
        p = self._probabilities(evidence)
        amounts = tf.maximum(tf.gather(p, target_indices, batch_dims=1), _MIN_PROBABILITY)
        maps = _normalize({eye: _member_mean([maps[eye] for maps in by_member]) for eye in by_member[0]}, amounts)
        return outputs, features, evidence, p, maps if eyes else maps[None]

    def _evidence(self, logits):
        return tf.stack(list(self.head.evidence(logits).values()), axis=1)

    def _probabilities(self, evidence):
        """Evidence is log-odds, except for more than two exclusive classes, where it is the logits of a softmax."""
        n = len(self.head.classes)
        if not self.head.exclusive or n == 2:
            return tf.sigmoid(evidence)
        return tf.concat([tf.nn.softmax(evidence[:, :n]), tf.sigmoid(evidence[:, n:])], axis=1)

    def _by_target(self, values):
        return dict(zip(self.targets, values.T, strict=True))

    def _member_maps(self, map_layer, activations, gradients):
        name, method = map_layer.name, METHODS[self.method]
        if not gradients or any(gradient is None for gradient in gradients):
            raise UserError(f"the prediction does not depend on {name}")
        pairs = zip(activations, gradients, strict=True)
        return [tf.nn.relu(method(to_feature_map(a, name), to_feature_map(g, name))) for a, g in pairs]


def _with_any_batch_size(tensor):
    """A spec for batches of any size, so that a smaller last batch is not traced again."""
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def _image_inputs(x):
    return {name: tf.cast(value, tf.float32) for name, value in x.items() if len(value.shape) == 4}


def _eyes_in_call_order(tape, activations, eyes):
    """The eye of each recorded activation: the only input it depends on. The network may process eyes in any order."""
    owners = []
    for tensor in activations:
        gradients = tape.gradient(tensor, eyes)
        owners.append([eye for eye, gradient in gradients.items() if gradient is not None])
    if sorted(owners) != sorted([eye] for eye in eyes):
        raise UserError("that layer gives no map for each eye; name one before the features of both eyes are combined")
    return [owner for (owner,) in owners]


def _member_mean(maps):
    """Average the maps of an ensemble's members, resized to the finest one."""
    if len(maps) == 1:
        return maps[0]
    size = max((tuple(m.shape[1:]) for m in maps), key=math.prod)
    return tf.reduce_mean([tf.image.resize(m[..., None], size)[..., 0] for m in maps], axis=0)


def _normalize(maps, amounts):
    """Scale {eye: maps} so that the means of an example's maps add up to its amount."""
    means = tf.add_n([tf.reduce_mean(m, axis=(1, 2)) for m in maps.values()])
    return {eye: m * tf.math.divide_no_nan(amounts, means)[:, None, None] for eye, m in maps.items()}


def _in_float32(model):
    """Copy a network that computes in half precision, where gradients would underflow or overflow."""
    if not any(layer.compute_dtype in _HALF_PRECISION for layer in layers_within(model)):
        return model
    copy = keras.saving.deserialize_keras_object(_replace_half(keras.saving.serialize_keras_object(model)))
    copy.set_weights(model.get_weights())
    return copy


def _replace_half(config):
    if isinstance(config, dict):
        return {key: _replace_half(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_replace_half(value) for value in config)
    return "float32" if isinstance(config, str) and config in _HALF_PRECISION else config
