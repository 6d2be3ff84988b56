"""`fcn_classifier`: a fully convolutional decoder whose class-evidence map is the decision.

The decoder enlarges the last feature map of a backbone stage by stage. Its last map is averaged over all places, and
the heads are linear, so the mean of a head's evidence map is exactly its logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import tensorflow as tf
from keras import layers, ops

from dr_tf.console import UserError
from dr_tf.models.attention import cbam as add_cbam
from dr_tf.models.backbones.backbone import Backbone
from dr_tf.models.classifier import with_heads
from dr_tf.models.keras_private import output_in_graph
from dr_tf.models.network import features_tensor, output_names
from dr_tf.models.stages import EVIDENCE
from dr_tf.parameters import Count, Fraction

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head


def fcn_classifier(
    backbone: Backbone,
    heads: Mapping[str, Head],
    *,
    filters: Sequence[Count] = (256, 128, 64),
    coarsest: Count | None = None,
    skips: bool = True,
    cbam: bool = True,
    reduction: Count = 16,
    dropout: Fraction = 0.0,
) -> keras.Model:
    """Build a classifier of single images from a backbone with feature maps and a decoder.

    Args:
        backbone: The backbone.
        heads: Maps the name of each output to its head.
        filters: Filters of each stage of the decoder. Each stage doubles the sides of the map: the default three lead
            from stride 32 to stride 4.
        coarsest: Stride of the coarsest map that the decoder takes; None for the backbone's last map. A place of a coarse
            map has seen most of the photograph, so that its evidence need not lie where a lesion is.
        skips: Whether a stage also takes the backbone's feature map of its stride.
        cbam: Whether each stage ends with CBAM (Woo et al., ECCV 2018).
        reduction: Channels of a stage divided by hidden units of its channel attention.
        dropout: Dropout rate of the features, which are the mean of the last map.

    Returns:
        A model from RGB images 0-255 to {output: logits}. The last map is the output of its layer `EVIDENCE`.

    Raises:
        UserError: The backbone has no feature maps, none of the coarsest stride, or too few to enlarge one this often.
    """
    maps = _maps(backbone, coarsest)
    strides = _strides(maps, len(filters))
    x = _convolution(maps[max(maps)], filters[0], 1, "decoder_in")
    for number, (stride, width) in enumerate(zip(strides, filters, strict=True), 1):
        name = f"decoder{number}"
        x = _enlarge(x, maps.get(stride), name)
        if skips and stride in maps:
            x = layers.Concatenate(name=f"{name}_join")([x, _convolution(maps[stride], width, 1, f"{name}_skip")])
        x = _convolution(x, width, 3, name)
        x = add_cbam(x, f"{name}_cbam", reduction=reduction) if cbam else x
    # In float32, so that the sum over all places loses nothing.
    x = layers.Activation("linear", dtype="float32", name=EVIDENCE)(x)
    x = layers.GlobalAveragePooling2D(dtype="float32", name="evidence_mean")(x)
    return with_heads(backbone.model.input, x, heads, name=f"fcn_{backbone.name}", dropout=dropout)


def evidence_maps(model: keras.Model) -> keras.Model:
    """Build a model from images to the evidence maps of an `fcn_classifier`.

    Returns:
        A model with the same input to {output: map [n, h, w, logits]}. The mean of a map over its places is exactly the
        logits of that output.

    Raises:
        UserError: The model has no decoder, or an output that is not a linear layer.
    """
    names = [layer.name for layer in model.layers]
    outputs = output_names(model)
    if EVIDENCE not in names or any(type(model.get_layer(name)) is not layers.Dense for name in outputs):
        raise UserError(f"the model {model.name} has no evidence map: it was not made by @fcn_classifier")
    features = output_in_graph(model, model.get_layer(EVIDENCE))
    return keras.Model(model.input, {name: model.get_layer(name)(features) for name in outputs})


def with_map_output(model: keras.Model, output: str, head: Head, name: str) -> keras.Model:
    """Add to an `fcn_classifier` the map of "positive", for training on lesion masks.

    It is what Grad-CAM and HiResCAM show of the layer `EVIDENCE` where it is above 0.

    Args:
        model: The model, or the part of it from a frozen backbone on.
        output: Name of the output that the map explains.
        head: The head of that output.
        name: Name of the new output.

    Returns:
        A model with the same input and weights to {output: logits, name: map [n, h, w]}.

    Raises:
        UserError: As in `evidence_maps`.
    """
    maps = evidence_maps(model).output[output]
    bias = model.get_layer(output)(ops.zeros_like(features_tensor(model)))
    shown = _MapOfPositive(head, dtype="float32", name=name)(model.output[output], maps, bias)
    return keras.Model(model.input, {**model.output, name: shown}, name=model.name)


class _MapOfPositive(layers.Layer):
    """The evidence of each place for each class, less the bias, weighted by the gradient of the log-odds of positive."""

    def __init__(self, head, **options):
        super().__init__(**options)
        self._head = head

    def call(self, logits, maps, bias):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            log_odds = self._head.evidence(logits)["positive"]
        weights = tf.stop_gradient(tape.gradient(log_odds, logits))
        return tf.reduce_sum(weights[:, None, None] * (maps - bias[:, None, None]), axis=-1)


def _maps(backbone, coarsest):
    """{stride: feature map} up to the coarsest one."""
    maps = {int(name.removeprefix("stride_")): tensor for name, tensor in backbone.model.output.items() if "_" in name}
    if not maps:
        raise UserError("fcn_classifier needs a backbone with feature maps")
    if coarsest is not None and coarsest not in maps:
        known = ", ".join(map(str, sorted(maps)))
        raise UserError(f"fcn_classifier.coarsest is the stride of a map of the backbone, {known}, not {coarsest}")
    return {stride: tensor for stride, tensor in maps.items() if coarsest is None or stride <= coarsest}


def _strides(maps, stages):
    """Strides of the decoder's maps, from coarse to fine."""
    strides = [max(maps) // 2**stage for stage in range(1, stages + 1)]
    if not strides or strides[-1] < 1:
        raise UserError(
            f"fcn_classifier.filters has {stages} stages; the coarsest map of stride {max(maps)} can be doubled "
            f"1 to {max(maps).bit_length() - 1} times"
        )
    return strides


def _enlarge(x, like, name):
    """Double the sides of a map, then crop it to the backbone's map: a side of 25 has become 13, which gives 26.

    Nearest neighbours, as the gradient of bilinear resizing in float16 fails under XLA (keras#20931).
    """
    x = layers.UpSampling2D(2, name=f"{name}_up")(x)
    if like is None or like.shape[1] == x.shape[1]:
        return x
    return layers.Cropping2D(((0, x.shape[1] - like.shape[1]), (0, x.shape[2] - like.shape[2])), name=f"{name}_crop")(x)


def _convolution(x, width, kernel_size, name):
    x = layers.Conv2D(
        width, kernel_size, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))
