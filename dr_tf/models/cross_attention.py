"""`cross_attention_classifier`: both eyes of a patient, each of which attends to the places of the other.

The right image is mirrored, so that equal positions in both eyes mean equal anatomy. Everything that joins the eyes
treats them alike: it does not matter which of two mirrored images is called left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
from keras import layers, ops

from dr_tf.console import UserError
from dr_tf.grades import EYES
from dr_tf.models.backbones.backbone import Backbone
from dr_tf.models.classifier import with_heads
from dr_tf.models.keras_private import layers_within
from dr_tf.models.paired import FUSIONS, age_and_sex_features, patient_inputs, present_eyes
from dr_tf.parameters import Count, Fraction, Share

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head

_EPSILON = 1e-6  # of layer normalization
_MIRROR = "mirror_right"  # name of the layer before the right image is mirrored
_ATTENTION = "attends_from_"  # in the names of the layers that output attention scores


def cross_attention_classifier(
    backbone: Backbone,
    heads: Mapping[str, Head],
    *,
    width: Count = 256,
    attention_heads: Count = 8,
    blocks: Count = 1,
    tied: bool = True,
    drop_eye: Share = 0.0,
    age_and_sex: bool = False,
    drop_age_and_sex: Fraction = 0.0,
    hidden: Sequence[Count] = (256,),
    dropout: Fraction = 0.0,
) -> keras.Model:
    """Build a classifier of both eyes of a patient with cross-attention between their feature maps.

    Each place of an eye's last feature map becomes a token, with a trained position. In each block the tokens of an eye
    attend to those of the other one, in both directions and with the same weights, followed by two dense layers. The mean
    tokens of the eyes are fused by their mean and their maximum, and go through the hidden layers to the heads. An absent
    eye is neither attended to nor fused.

    Args:
        backbone: The backbone.
        heads: Maps the name of each output to its head.
        width: Channels of a token, a multiple of `attention_heads`.
        attention_heads: Heads of each attention.
        blocks: Number of blocks.
        tied: Whether both eyes share one backbone. If not, each eye trains a copy of its own.
        drop_eye: Probability that one of two eyes is left out in a training step.
        age_and_sex: Whether the network also takes the patient's age and sex, each of which may be unknown.
        drop_age_and_sex: Probability that age and sex are left out in a training step.
        hidden: Units of the hidden layers between fusion and heads, each with ReLU.
        dropout: Dropout rate in the blocks and after each hidden layer.

    Returns:
        A model with the inputs and outputs of `paired_classifier`.

    Raises:
        UserError: The backbone has no feature map, or the width is not a multiple of the number of heads.
    """
    if width % attention_heads:
        raise UserError(
            f"cross_attention_classifier.width is a multiple of attention_heads = {attention_heads}, not {width}"
        )
    inputs = patient_inputs(backbone, age_and_sex=age_and_sex)
    present = present_eyes(inputs, drop_eye)
    tokens = _tokens(_feature_maps(backbone, inputs, tied=tied), width)
    for number in range(1, blocks + 1):
        tokens = _Block(f"block{number}", tokens[0].shape[1:], attention_heads, dropout)(tokens, present)
    norm = layers.LayerNormalization(epsilon=_EPSILON, name="token_norm")
    means = [layers.GlobalAveragePooling1D(name=f"{eye}_mean")(norm(x)) for eye, x in zip(EYES, tokens, strict=True)]
    x = layers.Concatenate(name="both_eyes")([FUSIONS[fuse](means, present) for fuse in ("mean", "max")])
    beside = age_and_sex_features(inputs, drop_age_and_sex)
    return with_heads(inputs, x, heads, name=f"cross_{backbone.name}", hidden=hidden, dropout=dropout, beside=beside)


def _feature_maps(backbone, inputs, *, tied):
    """The last feature map of each eye; that of the right eye mirrored."""
    maps = [tensor for name, tensor in backbone.model.output.items() if name.startswith("stride_")]
    if not maps:
        raise UserError("cross_attention_classifier needs a backbone with feature maps")
    first = keras.Model(backbone.model.input, maps[-1], name=backbone.name if tied else f"left_{backbone.name}")
    second = first if tied else _copy(first, f"right_{backbone.name}")
    right = ops.flip(layers.Identity(name=_MIRROR)(inputs["right"]), axis=2)
    return [first(inputs["left"]), second(right)]


def _copy(network, name):
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return keras.Model(copy.input, copy.output, name=name)


def _tokens(maps, width):
    """One token per place. The bias has a row for each place: it is the trained position."""
    height, breadth, channels = maps[0].shape[1:]
    flat = layers.Reshape((height * breadth, channels), name="places")
    embed = layers.EinsumDense("npc,cd->npd", (height * breadth, width), bias_axes="pd", name="tokens")
    return [embed(flat(x)) for x in maps]


class _Block:
    """Layers of one block, which both eyes share: pre-norm cross-attention and two dense layers, with shortcuts."""

    def __init__(self, name: str, shape: tuple[int, int], heads: int, dropout: float):
        places, width = shape
        self._name, self._scale = name, (width // heads) ** -0.5
        self._norms = [layers.LayerNormalization(epsilon=_EPSILON, name=f"{name}_norm{i}") for i in (1, 2)]
        self._query, self._key, self._value = (
            layers.EinsumDense("npd,dhe->nphe", (places, heads, width // heads), bias_axes="he", name=f"{name}_{part}")
            for part in ("query", "key", "value")
        )
        self._output = layers.EinsumDense("nphe,hed->npd", (places, width), bias_axes="d", name=f"{name}_output")
        self._wide = layers.Dense(2 * width, activation="gelu", name=f"{name}_dense1")
        self._narrow = layers.Dense(width, name=f"{name}_dense2")
        self._dropout = layers.Dropout(dropout, name=f"{name}_dropout")

    def __call__(self, tokens, present):
        normed = [self._norms[0](x) for x in tokens]
        attended = []
        for eye, own, other, other_present in zip(EYES, normed, normed[::-1], present[::-1], strict=True):
            seen = self._output(self._attend(eye, own, other))
            attended.append(self._dropout(seen) * ops.expand_dims(ops.cast(other_present, seen.dtype), -1))
        tokens = [x + seen for x, seen in zip(tokens, attended, strict=True)]
        return [x + self._dropout(self._narrow(self._wide(self._norms[1](x)))) for x in tokens]

    def _attend(self, eye, own, other):
        """Values of the other eye, weighted for each place of this one."""
        scores = ops.einsum("nphe,nqhe->nhpq", self._query(own) * self._scale, self._key(other))
        weights = layers.Softmax(name=f"{self._name}_{_ATTENTION}{eye}")(scores)
        return ops.einsum("nhpq,nqhe->nphe", weights, self._value(other))


def attention_scores(model: keras.Model) -> dict[str, list[keras.KerasTensor]]:
    """Find the attention scores of a network.

    Returns:
        {eye: [n, heads, places of this eye, places of the other eye] for each block}; empty lists for other networks.
    """
    return {eye: [layer.output for layer in model.layers if layer.name.endswith(_ATTENTION + eye)] for eye in EYES}


def mirrored_eyes(model: keras.Model) -> tuple[str, ...]:
    """Return the eyes whose image a network, or the members of an ensemble, mirrors."""
    return ("right",) if any(layer.name == _MIRROR for layer in layers_within(model)) else ()
