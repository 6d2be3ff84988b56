"""`Backbone`, and its assembly from any functional Keras network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras

from dr_tf.console import UserError
from dr_tf.models.keras_private import producing_operation
from dr_tf.models.layers.batch_normalization import batch_norms
from dr_tf.models.layers.replace_layers import finalize_normalization, to_project_layer
from dr_tf.models.stages import feature_maps, freeze, stage_marker, stages


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A feature extractor.

    Attributes:
        name: Its name in `BACKBONES`.
        model: A model from RGB images 0-255 to {"stride_4": feature map, ..., "pooled": features}.
        stages: {stage: its layers}, from input to output.
    """

    name: str
    model: keras.Model
    stages: dict[str, list[keras.layers.Layer]]


@dataclasses.dataclass(frozen=True)
class Body:
    """A network without its head, from which `assemble` makes a backbone.

    Attributes:
        model: A model from normalized images to pooled features.
        ends: {stage: its last tensor}, from input to output.
        normalization: Layers that normalize RGB images 0-255 for `model`.
    """

    model: keras.Model
    ends: dict[str, keras.KerasTensor]
    normalization: Sequence[keras.layers.Layer] = ()


def assemble(
    name: str, body: Body, *, image_size: int, trainable_from: str = "all", freeze_batch_norm: bool = False
) -> Backbone:
    """Build a backbone from a body: add normalization and stage markers, and freeze what is not trained.

    The result is one flat graph, as a network inside another cannot be cut at a feature map.

    Args:
        name: Name of the backbone.
        body: The network.
        image_size: Side of the images in pixels.
        trainable_from: "all", "none", or the first stage to train.
        freeze_batch_norm: Whether to freeze all batch norm.
    """
    frozen = _stages_below(trainable_from, [*body.ends, "pooled"])
    model = _rebuild(body, image_size, name)
    for operation in body.model.layers:
        if operation.weights:
            _copy_weights(operation, model.get_layer(operation.name))
    for stage in frozen:
        freeze(stages(model)[stage])
    if freeze_batch_norm:
        freeze(batch_norms(model))
    outputs = feature_maps(model) | {"pooled": model.output}
    return Backbone(name, keras.Model(model.input, outputs, name=name), stages(model))


def _stages_below(trainable_from, known):
    fixed = {"all": [], "none": known}
    if trainable_from in fixed:
        return fixed[trainable_from]
    if trainable_from not in known:
        choices = ", ".join([*fixed, *known])
        raise UserError(f"unknown stage {trainable_from!r} to train from; known: {choices}")
    return known[: known.index(trainable_from)]


def _rebuild(body, image_size, name):
    image = keras.Input((image_size, image_size, 3), name="photograph")
    normalized = image
    for layer in body.normalization:
        normalized = layer(normalized)
    stage_ends = body.ends | {"pooled": body.model.output}
    stage_of = {producing_operation(tensor).name: stage for stage, tensor in stage_ends.items()}

    def call(operation, *args, **kwargs):
        args = [normalized if argument is image else argument for argument in args]
        output = operation(*args, **kwargs)
        return stage_marker(stage_of[operation.name])(output) if operation.name in stage_of else output

    model = keras.models.clone_model(
        body.model, input_tensors=image, clone_function=to_project_layer, call_function=call
    )
    return keras.Model(image, model.output, name=name)


def _copy_weights(source, target):
    target.set_weights(source.get_weights())
    finalize_normalization(target)
