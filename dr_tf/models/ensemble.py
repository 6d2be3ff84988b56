"""Ensembles: one Keras model whose probabilities are the mean of its members' probabilities.

The model has the same inputs and outputs as a single network. Inference, evaluation, explanation and export need no
special case for it, and plain Keras loads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from dr_tf.models.classifier import FEATURES
from dr_tf.models.links import get_link
from dr_tf.models.network import MEMBERS_PREFIX, features_tensor, image_size_of

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head


def build_ensemble(models: Sequence[keras.Model], heads: Mapping[str, Head]) -> keras.Model:
    """Build one model from several.

    Its input has the largest image size of the members; for the others images are resized.

    Args:
        models: The members. All have the same outputs.
        heads: Maps each output to its head.

    Returns:
        A model that computes the mean of the members' probabilities as logits. Its features are the members' features,
        concatenated.
    """
    size = max(image_size_of(model) for model in models)
    inputs = keras.tree.map_structure(lambda tensor: _input_like(tensor, size), models[0].input)
    features = [_member_features(model, number, inputs) for number, model in enumerate(models)]
    all_features = keras.layers.Concatenate(dtype="float32", name=FEATURES)(features)
    ends = np.cumsum([part.shape[-1] for part in features]).tolist()
    parts = [all_features[:, start:end] for start, end in zip([0, *ends], ends, strict=False)]
    outputs = {output: _mean_logits(models, parts, output, head) for output, head in heads.items()}
    return keras.Model(inputs, outputs, name="_".join([f"{len(models)}_networks", *outputs]))


def _mean_logits(models, parts, output, head):
    logits = [
        _copied_head(model, output, f"member{number}_{output}")(part)
        for number, (model, part) in enumerate(zip(models, parts, strict=True))
    ]
    members = keras.layers.Concatenate(dtype="float32", name=f"all_{output}")(logits)
    shape = (len(models), head.outputs)
    members = keras.layers.Reshape(shape, dtype="float32", name=MEMBERS_PREFIX + output)(members)
    return get_link(head.link).member_mean(members)


def _input_like(tensor, size):
    shape = (size, size, *tensor.shape[3:]) if len(tensor.shape) == 4 else tensor.shape[1:]
    return keras.Input(shape, dtype=tensor.dtype, name=tensor.name)


def _member_features(model, number, inputs):
    body = keras.Model(model.input, features_tensor(model), name=f"member{number}")
    size = image_size_of(model)

    def resized(tensor):
        if len(tensor.shape) != 4 or tensor.shape[1] == size:
            return tensor
        return keras.layers.Resizing(size, size, antialias=True, dtype="float32")(tensor)

    return body(keras.tree.map_structure(resized, inputs))


def _copied_head(model, output, name):
    """Copy everything between the features and an output, as a network of its own.

    A copy, as a saved model would not share layers between two networks inside it.
    """
    head = keras.Model(features_tensor(model), model.output[output], name=name)
    copy = keras.models.clone_model(head)
    copy.set_weights(head.get_weights())
    return copy
