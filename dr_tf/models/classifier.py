"""`classifier`: a Keras classifier of single images. Backbone, pooling, hidden layers, and one output layer per head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras

from dr_tf.console import UserError
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


def with_heads(
    inputs: keras.KerasTensor | dict[str, keras.KerasTensor],
    x: keras.KerasTensor,
    heads: Mapping[str, Head],
    *,
    name: str,
    hidden: Sequence[int] = (),
    projection: int | None = None,
    dropout: float = 0.0,
    beside: keras.KerasTensor | None = None,
) -> keras.Model:
    """Build a model whose heads take `x`, after hidden layers, and further features `beside` it.

    The other arguments are those of `classifier`.
    """
    trained, width = _layers(hidden, projection, dropout), x.shape[-1]

    def project(tensor):
        if tensor.shape[-1] != width:
            raise UserError(f"embeddings of {tensor.shape[-1]} numbers cannot pass through layers that take {width}")
        for layer in trained:
            tensor = layer(tensor)
        return tensor

    x = project(x) if trained else _dropout(x, dropout, "dropout")
    if beside is not None:
        x = keras.layers.Concatenate(dtype=x.dtype, name="all_features")([x, beside])
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
