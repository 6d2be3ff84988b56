"""Keras classifiers of one image or of both eyes: backbone, pooling, hidden layers, and one output layer per head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import keras
from keras import ops

from dr_tf.console import UserError
from dr_tf.grades import EYES
from dr_tf.models.backbones.backbone import Backbone
from dr_tf.parameters import Count, Fraction

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head

FEATURES = "features"  # name of the layer whose output all heads take


def classifier(
    backbone: Backbone,
    heads: Mapping[str, Head],
    *,
    hidden: Sequence[Count] = (),
    projection: Count | None = None,
    dropout: Fraction = 0.0,
) -> keras.Model:
    """Build a classifier of single images.

    Args:
        backbone: The backbone.
        heads: Maps the name of each output to its head.
        hidden: Units of the hidden layers between pooling and heads, each with ReLU.
        projection: Units of a linear layer after them, whose output the heads take; None for no such layer.
        dropout: Dropout rate after each hidden layer, or after pooling if there is none.

    Returns:
        A model from RGB images 0-255 to {output: logits}.
    """
    x = backbone.model.output["pooled"]
    return with_heads(
        backbone.model.input, x, heads, name=backbone.name, hidden=hidden, projection=projection, dropout=dropout
    )


def paired_classifier(
    backbone: Backbone,
    heads: Mapping[str, Head],
    *,
    fuse: Literal["mean", "max", "concatenate"] = "mean",
    hidden: Sequence[Count] = (),
    projection: Count | None = None,
    dropout: Fraction = 0.0,
) -> keras.Model:
    """Build a classifier of both eyes of a patient. One shared backbone computes the features of each eye.

    Args:
        backbone: The backbone that both eyes share.
        heads: Maps the name of each output to its head.
        fuse: How the features of both eyes are combined: "mean" or "max" over the eyes that are present, or
            "concatenate", where the features of an absent eye are zeros.
        hidden: Units of the hidden layers between fusion and heads, each with ReLU.
        projection: Units of a linear layer after them, whose output the heads take; None for no such layer.
        dropout: Dropout rate after each hidden layer, or after fusion if there is none.

    Returns:
        A model from {"left", "right": RGB images 0-255, "left_present", "right_present": bool} to {output: logits}.
    """
    shared = keras.Model(backbone.model.input, backbone.model.output["pooled"], name=backbone.name)
    shape = backbone.model.input.shape[1:]
    inputs = {eye: keras.Input(shape, dtype="float32", name=eye) for eye in EYES}
    inputs |= {f"{eye}_present": keras.Input((), dtype="bool", name=f"{eye}_present") for eye in EYES}
    features = [shared(inputs[eye]) for eye in EYES]
    present = [keras.layers.Reshape((1,), name=f"{eye}_there")(inputs[f"{eye}_present"]) for eye in EYES]
    x = FUSIONS[fuse](features, present)
    name = f"two_{backbone.name}"
    return with_heads(inputs, x, heads, name=name, hidden=hidden, projection=projection, dropout=dropout)


def _mean(features, present):
    weights = [ops.cast(is_present, features[0].dtype) for is_present in present]
    total = sum(weight * x for weight, x in zip(weights, features, strict=True))
    return total / ops.maximum(sum(weights), 1)


def _max(features, present):
    """An absent eye is below every other; a patient without any eye has features of zero."""
    masked = [ops.where(is_present, x, -1e4) for is_present, x in zip(present, features, strict=True)]
    return ops.where(ops.logical_or(*present), ops.maximum(*masked), 0.0)


def _concatenate(features, present):
    masked = [ops.where(is_present, x, 0.0) for is_present, x in zip(present, features, strict=True)]
    return ops.concatenate(masked, axis=-1)


FUSIONS = {"mean": _mean, "max": _max, "concatenate": _concatenate}


def with_heads(
    inputs: keras.KerasTensor | dict[str, keras.KerasTensor],
    x: keras.KerasTensor,
    heads: Mapping[str, Head],
    *,
    name: str,
    hidden: Sequence[int] = (),
    projection: int | None = None,
    dropout: float = 0.0,
) -> keras.Model:
    """Build a model whose heads take `x`, after hidden layers. Arguments as those of `classifier`."""
    trained, width = _layers(hidden, projection, dropout), x.shape[-1]

    def project(tensor):
        if tensor.shape[-1] != width:
            raise UserError(f"embeddings of {tensor.shape[-1]} numbers cannot pass through layers that take {width}")
        for layer in trained:
            tensor = layer(tensor)
        return tensor

    x = project(x) if trained else _dropout(x, dropout, "dropout")
    x = keras.layers.Identity(dtype=x.dtype, name=FEATURES)(x)
    outputs = {output: head.logits(x, output, project if trained else None) for output, head in heads.items()}
    return keras.Model(inputs, outputs, name="_".join([name, *outputs]))


def _layers(hidden, projection, dropout):
    """The trained layers between pooling and heads."""
    trained = []
    for i, units in enumerate(hidden, 1):
        trained.append(keras.layers.Dense(units, activation="relu", name=f"hidden{i}"))
        if dropout:
            trained.append(keras.layers.Dropout(dropout, name=f"hidden{i}_dropout"))
    return trained + ([keras.layers.Dense(projection, name="head_projection")] if projection else [])


def _dropout(x, rate, name):
    return keras.layers.Dropout(rate, dtype=x.dtype, name=name)(x) if rate else x
