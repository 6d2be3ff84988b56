"""Replace layers of Keras in a network by this project's layers, and back.

A layer keeps the class that it was made of, so the network is cloned. In both directions the clone has the names,
variables and config of the original; only the classes of some layers differ.
"""

from __future__ import annotations

import keras

from dr_tf.models.keras_private import layers_within, producing_operation, replace_inner_layer
from dr_tf.models.layers.batch_normalization import FusedBatchNormalization
from dr_tf.models.layers.pointwise import SteppedConv2D

_PROJECT_LAYERS = (FusedBatchNormalization, SteppedConv2D)


def to_project_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Clone a layer with this project's classes, also for the layers inside it.

    It is the `clone_function` for `keras.models.clone_model`. Layers that a layer creates only when it is built are not
    replaced.
    """
    return _clone(layer, _project_class)


def to_project_layers(model: keras.Model) -> keras.Model:
    """Copy a network with this project's layers and the same values."""
    return _with_values_of(model, _clone(model, _project_class))


def replace_unsafe_convolutions(model: keras.Model) -> keras.Model:
    """Replace the convolutions whose gradient can write outside its memory (see `pointwise.py`).

    Returns:
        A copy, or the network itself if it has no such layer.
    """
    if not any(SteppedConv2D.replaces(layer) for layer in layers_within(model)):
        return model
    return _with_values_of(model, _clone(model, _safe_class))


def to_plain_keras(model: keras.Model) -> keras.Model:
    """Copy a network with Keras' own layers and the same values, to save it.

    A saved model contains the class of each layer. A plain model therefore opens in Keras' safe mode where this project
    is not installed. Use the copy for saving and prediction only: Keras' own layers train more slowly, and their
    gradient can write outside its memory on a CPU (see `pointwise.py`).
    """
    return _with_values_of(model, _clone(model, _keras_class))


def _project_class(layer):
    return next((kind for kind in _PROJECT_LAYERS if kind.replaces(layer)), type(layer))


def _safe_class(layer):
    return SteppedConv2D if SteppedConv2D.replaces(layer) else type(layer)


def _keras_class(layer):
    return type(layer).__base__ if isinstance(layer, _PROJECT_LAYERS) else type(layer)


def _clone(layer, class_of):
    if _is_network(layer):
        inputs = None if isinstance(layer, keras.Sequential) else keras.tree.map_structure(_input_like, layer.input)
        return keras.models.clone_model(layer, inputs, clone_function=lambda inner: _clone(inner, class_of))
    clone = class_of(layer).from_config(layer.get_config())
    if isinstance(clone, keras.layers.Layer):  # a graph also contains operations
        _replace_inside(clone, class_of)
    return clone


def _input_like(tensor):
    """Keep the name of the input layer: by default Keras would use that of its tensor."""
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=producing_operation(tensor).name)


def _replace_inside(layer, class_of):
    for inner in layers_within(layer, include_self=False, recursive=False):
        if _is_network(inner) or class_of(inner) is not type(inner):
            replace_inner_layer(layer, inner, _clone(inner, class_of))
        else:
            _replace_inside(inner, class_of)


def _is_network(layer):
    """Functional or sequential. A subclass of `Model` with its own `call` is handled as a layer."""
    return isinstance(layer, keras.Sequential) or hasattr(layer, "operations")


def _with_values_of(model, clone):
    clone.set_weights(model.get_weights())
    for new, old in zip(layers_within(clone), layers_within(model), strict=True):
        finalize_normalization(new)
        if hasattr(new, "seed_generator"):  # dropout; a layer with a rate of 0 has none
            new.seed_generator.state.assign(old.seed_generator.state.numpy())
    return clone


def finalize_normalization(layer: keras.layers.Layer) -> None:
    """After its weights were set: recompute the constants that `keras.layers.Normalization` derives from them."""
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()
