"""`paired_classifier`: a classifier of both eyes of a patient, and the parts that all networks of both eyes share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import keras
from keras import layers, ops

from dr_tf.grades import EYES, PATIENT_FIELDS, SEXES
from dr_tf.models.backbones.backbone import Backbone
from dr_tf.models.classifier import with_heads
from dr_tf.parameters import Count, Fraction, Share

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head

_MIDDLE_AGE = 50.0  # in years
_AGE_AND_SEX_UNITS = 16


def paired_classifier(
    backbone: Backbone,
    heads: Mapping[str, Head],
    *,
    fuse: Literal["mean", "max", "concatenate"] = "mean",
    drop_eye: Share = 0.0,
    age_and_sex: bool = False,
    drop_age_and_sex: Fraction = 0.0,
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
        drop_eye: Probability that one of two eyes is left out in a training step. With 1 the network is trained on single
            eyes, each with the labels of the patient.
        age_and_sex: Whether the network also takes the patient's age and sex, each of which may be unknown.
        drop_age_and_sex: Probability that age and sex are left out in a training step.
        hidden: Units of the hidden layers between fusion and heads, each with ReLU.
        projection: Units of a linear layer after them, whose output the heads take; None for no such layer.
        dropout: Dropout rate after each hidden layer, or after fusion if there is none.

    Returns:
        A model from {"left", "right": RGB images 0-255, "left_present", "right_present": bool} to {output: logits}. With
        `age_and_sex` also from "age" in years and "sex", its number in `dr_tf.grades.SEXES`; both are -1 if unknown.
    """
    shared = keras.Model(backbone.model.input, backbone.model.output["pooled"], name=backbone.name)
    inputs = patient_inputs(backbone, age_and_sex=age_and_sex)
    x = FUSIONS[fuse]([shared(inputs[eye]) for eye in EYES], present_eyes(inputs, drop_eye))
    return with_heads(
        inputs,
        x,
        heads,
        name=f"two_{backbone.name}",
        hidden=hidden,
        projection=projection,
        dropout=dropout,
        beside=age_and_sex_features(inputs, drop_age_and_sex),
    )


def patient_inputs(backbone: Backbone, *, age_and_sex: bool) -> dict[str, keras.KerasTensor]:
    """Return the inputs of a network of both eyes: an image of each, which are present, and optionally age and sex."""
    shape = backbone.model.input.shape[1:]
    inputs = {eye: keras.Input(shape, dtype="float32", name=eye) for eye in EYES}
    inputs |= {f"{eye}_present": keras.Input((), dtype="bool", name=f"{eye}_present") for eye in EYES}
    if age_and_sex:
        inputs |= {name: keras.Input((), dtype="float32", name=name) for name in PATIENT_FIELDS}
    return inputs


def present_eyes(inputs: Mapping[str, keras.KerasTensor], drop_eye: float = 0.0) -> list[keras.KerasTensor]:
    """Return for each eye whether the network uses it, bool [n, 1]: it is present and not dropped in this step.

    Of two eyes at most one is dropped.
    """
    left, right = (layers.Reshape((1,), name=f"{eye}_there")(inputs[f"{eye}_present"]) for eye in EYES)
    if not drop_eye:
        return [left, right]
    # One of both is dropped with this probability. The right one is dropped only if the left one is still there.
    keep_left = _is_kept(left, drop_eye / 2, "drop_left")
    keep_right = _is_kept(right, drop_eye / 2 / (1 - drop_eye / 2), "drop_right")
    left = ops.logical_and(left, ops.logical_or(keep_left, ops.logical_not(right)))
    return [left, ops.logical_and(right, ops.logical_or(keep_right, ops.logical_not(left)))]


def _is_kept(like, rate, name):
    """Random bool of this shape, True at inference. Keras' dropout of ones keeps the state and seed of the generator."""
    # A rate of 1 would scale by 1 / 0.
    rate = min(rate, 1 - 1e-6)
    return ops.greater(layers.Dropout(rate, dtype="float32", name=name)(ops.ones_like(like, dtype="float32")), 0)


def age_and_sex_features(inputs: Mapping[str, keras.KerasTensor], drop: float = 0.0) -> keras.KerasTensor | None:
    """Compute features of age and sex, [n, 16]; None if the network does not take them.

    Unknown values stand in the middle: an age of 50, and a sex between both. So the features of a patient of unknown age and
    sex are not out of distribution.

    Args:
        inputs: The inputs of the network.
        drop: Probability that age and sex are left out in a training step.
    """
    if "age" not in inputs:
        return None
    age, sex = (layers.Reshape((1,), name=f"{name}_column")(inputs[name]) for name in PATIENT_FIELDS)
    decades = ops.where(ops.greater_equal(age, 0), (age - _MIDDLE_AGE) / 10, 0.0)
    is_of_sex = [ops.cast(ops.equal(sex, number), "float32") for number in range(len(SEXES))]
    columns = ops.concatenate([decades, is_of_sex[0] - is_of_sex[1]], axis=-1)
    if drop:
        columns *= ops.cast(_is_kept(age, drop, "drop_age_and_sex"), "float32")
    return layers.Dense(_AGE_AND_SEX_UNITS, activation="relu", name="age_and_sex")(columns)


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
