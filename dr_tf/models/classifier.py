"""The Keras models, {output: logits} of one photograph or of both eyes: backbone, pooling, hidden layers, one output layer per head."""

import keras
from keras import ops

from dr_tf.console import UserError
from dr_tf.grades import EYES

FEATURES = "features"  # the layer whose output every head reads


def classifier(backbone, heads, *, hidden=(), dropout=0.0):
    """One graph from RGB 0-255 to the logits of each of `heads`, {output: head}.

    `dropout` follows each of the `hidden` layers; without any, the features.
    """
    x = backbone.model.output["pooled"]
    return _with_heads(backbone.model.input, x, heads, hidden, dropout, backbone.name)


def paired_classifier(backbone, heads, *, fuse="mean", hidden=(), dropout=0.0):
    """As `classifier`, of both eyes of a patient: one shared backbone looks at each, and their features become one.

    Args:
        fuse: "mean" or "max" over the eyes that are there, or "concatenate", in which an absent eye is zeros.
    """
    if fuse not in FUSIONS:
        raise UserError(f"unknown paired_classifier.fuse {fuse!r}; known: {', '.join(FUSIONS)}")
    shared = keras.Model(backbone.model.input, backbone.model.output["pooled"], name=backbone.name)
    shape = backbone.model.input.shape[1:]
    inputs = {eye: keras.Input(shape, dtype="float32", name=eye) for eye in EYES}
    inputs |= {f"{eye}_present": keras.Input((), dtype="bool", name=f"{eye}_present") for eye in EYES}
    each = [shared(inputs[eye]) for eye in EYES]
    there = [keras.layers.Reshape((1,), name=f"{eye}_there")(inputs[f"{eye}_present"]) for eye in EYES]
    x = FUSIONS[fuse](each, there)
    return _with_heads(inputs, x, heads, hidden, dropout, f"two_{backbone.name}")


def _mean(each, there):
    weights = [ops.cast(one, each[0].dtype) for one in there]
    total = sum(weight * x for weight, x in zip(weights, each, strict=True))
    return total / ops.maximum(sum(weights), 1)


def _max(each, there):
    """An eye that is not there is below every other; a patient without any has features of zero."""
    shown = [ops.where(one, x, -1e4) for one, x in zip(there, each, strict=True)]
    return ops.where(ops.logical_or(*there), ops.maximum(*shown), 0.0)


def _concatenate(each, there):
    return ops.concatenate([ops.where(one, x, 0.0) for one, x in zip(there, each, strict=True)], axis=-1)


FUSIONS = {"mean": _mean, "max": _max, "concatenate": _concatenate}


def _with_heads(inputs, x, heads, hidden, dropout, name):
    for i, units in enumerate(hidden, 1):
        x = keras.layers.Dense(units, activation="relu", name=f"hidden{i}")(x)
        x = _dropped(x, dropout, f"hidden{i}_dropout")
    if not hidden:
        x = _dropped(x, dropout, "dropout")
    x = keras.layers.Identity(name=FEATURES)(x)
    outputs = {output: head.logits(x, output) for output, head in heads.items()}
    return keras.Model(inputs, outputs, name="_".join([name, *outputs]))


def _dropped(x, rate, name):
    return keras.layers.Dropout(rate, name=name)(x) if rate else x
