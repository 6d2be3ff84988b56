"""What a backbone is, and how any functional Keras network becomes one."""

import dataclasses
from collections.abc import Sequence

import keras

from dr_tf.console import UserError
from dr_tf.models.keras_private import made_by
from dr_tf.models.layers.batch_normalization import batch_norms
from dr_tf.models.layers.replace_layers import finalize, own_layer
from dr_tf.models.stages import feature_maps, freeze, mark, stages


@dataclasses.dataclass(frozen=True)
class Backbone:
    """`model`: RGB 0-255 -> {"stride_4": ..., ..., "pooled": ...}; `stages`: name -> layers, from input to output."""

    name: str
    model: keras.Model
    stages: dict[str, list[keras.layers.Layer]]


@dataclasses.dataclass(frozen=True)
class Body:
    """A network without its head, before it is a backbone.

    `model` takes normalized photographs and gives pooled features; `ends` names its stages, from input to output, by the
    last tensor of each; `normalization`: the layers from RGB 0-255 to what `model` takes.
    """

    model: keras.Model
    ends: dict[str, keras.KerasTensor]
    normalization: Sequence[keras.layers.Layer] = ()


def assemble(name, body, *, image_size, trainable_from="all", freeze_batch_norm=False):
    """Puts normalization before a body and marks behind its stages, and freezes what is not to be trained.

    One flat graph, as a network inside another cannot be cut at a feature map.
    """
    frozen = _stages_below(trainable_from, [*body.ends, "pooled"])
    model = _rebuilt(body, image_size, name)
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


def _rebuilt(body, image_size, name):
    photograph = keras.Input((image_size, image_size, 3), name="photograph")
    normalized = photograph
    for layer in body.normalization:
        normalized = layer(normalized)
    ends = {made_by(tensor).name: stage for stage, tensor in (body.ends | {"pooled": body.model.output}).items()}

    def call(operation, *args, **kwargs):
        args = [normalized if argument is photograph else argument for argument in args]
        output = operation(*args, **kwargs)
        return mark(ends[operation.name])(output) if operation.name in ends else output

    model = keras.models.clone_model(body.model, input_tensors=photograph, clone_function=own_layer, call_function=call)
    return keras.Model(photograph, model.output, name=name)


def _copy_weights(one, other):
    other.set_weights(one.get_weights())
    finalize(other)
