"""The graph to export: a network's logits and features and, where there is a closed form, the map of each logit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dr_tf.inference.export_file import FEATURES, MAPS
from dr_tf.models.keras_private import producing_operation
from dr_tf.models.network import MEMBERS_PREFIX, features_tensor, image_size_of, is_ensemble, is_paired
from dr_tf.models.stages import EVIDENCE, feature_maps

_AFFINE_TOLERANCE = 1e-4
_PASSING = (keras.layers.Identity, keras.layers.Dropout)  # layers that change nothing at inference


class ExportedGraph(tf.Module):
    """A network as one function of images.

    Args:
        model: the network.
        decides: the output whose maps the graph computes.
        batch: number of examples in a batch; None for any number.

    Attributes:
        signature: {name: TensorSpec} of the inputs. Images are uint8 RGB.
        map_layer: name of the layer that the maps show; empty if the network has no maps in closed form.
    """

    def __init__(self, model: keras.Model, decides: str, batch: int | None = None):
        super().__init__()
        self.model, self.decides = model, decides
        feature_map = _pooled_map(model)
        if feature_map is not None and not _is_affine(model.get_layer(decides), feature_map.shape[-1]):
            feature_map = None
        tensors = [model.output, features_tensor(model), *([] if feature_map is None else [feature_map])]
        self._network = keras.Model(model.input, tensors)
        self.map_layer = "" if feature_map is None else _name_of(model, feature_map)
        self.signature = _signature(model, batch)
        self.function = tf.function(self._compute, input_signature=[self.signature], autograph=False)

    def _compute(self, images: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        x = {name: tf.cast(value, tf.float32) if value.dtype == tf.uint8 else value for name, value in images.items()}
        outputs, features, *feature_map = self._network(x if is_paired(self.model) else x["images"], training=False)
        results = {**outputs, FEATURES: tf.cast(features, tf.float32)}
        if feature_map:
            results[MAPS] = self._maps(feature_map[0])
        return {name: tf.identity(value, name=name) for name, value in results.items()}

    def _maps(self, feature_map):
        """Compute the map of each logit, [n, h, w, logits].

        The features are the mean of the feature map, and the logits are affine in them: the mean of a logit's map is the
        logit without its bias.
        """
        layer, width = self.model.get_layer(self.decides), feature_map.shape[-1]
        shape = tf.shape(feature_map)
        places = layer(tf.reshape(tf.cast(feature_map, tf.float32), [-1, width]))
        return tf.reshape(places - layer(tf.zeros([1, width])), [-1, shape[1], shape[2], places.shape[-1]])


def members_function(model: keras.Model, outputs: Sequence[str]) -> tuple[Any, dict[str, tf.TensorSpec]]:
    """Build the function from an ensemble's features to the logits of its members, {output: [n, members, logits]}.

    Returns:
        (the `tf.function`, its signature).
    """
    features = features_tensor(model)
    members = keras.Model(features, {name: model.get_layer(MEMBERS_PREFIX + name).output for name in outputs})
    spec = tf.TensorSpec([None, features.shape[-1]], tf.float32, name=FEATURES)

    def compute(inputs):
        return {name: tf.identity(value, name=name) for name, value in members(inputs[FEATURES]).items()}

    return tf.function(compute, input_signature=[{FEATURES: spec}], autograph=False), {FEATURES: spec}


def freeze(
    function: Any, signature: dict[str, tf.TensorSpec]
) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """Return a `tf.function`, from {name: tensor} to {name: tensor}, with its variables as constants."""
    concrete = function.get_concrete_function(signature)
    names = list(concrete.structured_outputs)
    constant = convert_variables_to_constants_v2(concrete)
    order = [tensor.name.split(":")[0] for tensor in constant.inputs]

    def call(images):
        values = constant(*[images[name] for name in order])
        return dict(zip(sorted(names), values, strict=True))

    return call


def _signature(model, batch):
    size = image_size_of(model)
    if not is_paired(model):
        return {"images": tf.TensorSpec([batch, size, size, 3], tf.uint8, name="images")}
    return {
        name: tf.TensorSpec([batch, *tensor.shape[1:]], tf.uint8 if len(tensor.shape) == 4 else tensor.dtype, name=name)
        for name, tensor in model.input.items()
    }


def _pooled_map(model):
    """The feature map whose mean over all places is the features; None if they are anything else."""
    if is_paired(model) or is_ensemble(model):
        return None
    operation = producing_operation(features_tensor(model))
    while isinstance(operation, _PASSING):
        operation = producing_operation(operation.input)
    is_pooling = type(operation) is keras.layers.GlobalAveragePooling2D and not operation.keepdims
    return operation.input if is_pooling and operation.data_format == "channels_last" else None


def _is_affine(layer, width):
    """Whether an output layer is affine, tried on random features."""
    a, b = np.random.default_rng(0).normal(size=(2, 4, width)).astype(np.float32)
    together, first, second, zero = (np.asarray(layer(x)) for x in (a + b, a, b, 0 * a))
    return np.allclose(together - first, second - zero, atol=_AFFINE_TOLERANCE * max(1, np.abs(together).max()))


def _name_of(model, feature_map):
    """The name of a feature map as `explain --layer` knows it."""
    operation = producing_operation(feature_map)
    if operation.name == EVIDENCE:
        return EVIDENCE
    strides = {id(producing_operation(tensor)): name for name, tensor in feature_maps(model).items()}
    return strides.get(id(operation), operation.name)
