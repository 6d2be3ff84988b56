"""Several networks as one: a graph whose probabilities are the mean of its members'.

It is a network like any other to whoever predicts, measures, explains or exports it, and opens in plain Keras.
"""

import math

import keras
import numpy as np
from keras import ops

from dr_tf.models.classifier import FEATURES
from dr_tf.models.network import MEMBERS, features_of, image_size_of


def _log_mean(logarithms):
    """log of the mean over members: what is all but certain keeps its digits."""
    return ops.logsumexp(logarithms, axis=1) - math.log(logarithms.shape[1])


def _classes(logits):
    return _log_mean(ops.log_softmax(logits, axis=-1))


def _questions(logits):
    return _log_mean(ops.log_sigmoid(logits)) - _log_mean(ops.log_sigmoid(-logits))


def _conditional(logits):
    """Of P(class > k | class > k - 1): the mean is of P(class > k)."""
    above = ops.cumsum(ops.log_sigmoid(logits), axis=-1)
    just_below = above - ops.log_sigmoid(logits) + ops.log_sigmoid(-logits)
    return _log_mean(above) - _log_mean(just_below)


def _grades(logits):
    return ops.mean(logits, axis=1)


# Link -> logits [n, members, outputs] -> logits [n, outputs] that decode to the mean of the probabilities; of a regression
# the mean of the grades.
MEANS = {
    "softmax": _classes,
    "binary": _questions,
    "labels": _questions,
    "coral": _questions,
    "corn": _conditional,
    "regression": _grades,
}


def combined(models, heads):
    """The ensemble of these. Photographs are at the largest size that one takes; for the others they are made smaller.

    Args:
        heads: {output: head}, the same for all.
    """
    size = max(image_size_of(model) for model in models)
    inputs = keras.tree.map_structure(lambda tensor: _input(tensor, size), models[0].input)
    features = [_features(model, number, inputs) for number, model in enumerate(models)]
    together = keras.layers.Concatenate(dtype="float32", name=FEATURES)(features)
    ends = np.cumsum([part.shape[-1] for part in features]).tolist()
    parts = [together[:, start:end] for start, end in zip([0, *ends], ends, strict=False)]
    outputs = {output: _mean(models, parts, output, head) for output, head in heads.items()}
    return keras.Model(inputs, outputs, name="_".join([f"{len(models)}_networks", *outputs]))


def _mean(models, parts, output, head):
    """What the members say of an output, and the mean of it."""
    logits = [
        _copied(model.get_layer(output), f"member{number}_{output}", part)
        for number, (model, part) in enumerate(zip(models, parts, strict=True))
    ]
    members = keras.layers.Concatenate(dtype="float32", name=f"all_{output}")(logits)
    members = keras.layers.Reshape((len(models), head.outputs), dtype="float32", name=MEMBERS + output)(members)
    return MEANS[head.link](members)


def _input(tensor, size):
    shape = (size, size, *tensor.shape[3:]) if len(tensor.shape) == 4 else tensor.shape[1:]
    return keras.Input(shape, dtype=tensor.dtype, name=tensor.name)


def _features(model, number, inputs):
    body = keras.Model(model.input, features_of(model), name=f"member{number}")
    size = image_size_of(model)

    def resized(tensor):
        if len(tensor.shape) != 4 or tensor.shape[1] == size:
            return tensor
        return keras.layers.Resizing(size, size, antialias=True, dtype="float32")(tensor)

    return body(keras.tree.map_structure(resized, inputs))


def _copied(layer, name, tensor):
    copy = type(layer).from_config(layer.get_config() | {"name": name})
    output = copy(tensor)
    copy.set_weights(layer.get_weights())
    return output
