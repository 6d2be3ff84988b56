"""Networks in which layers of this project take the place of those of Keras, and such networks as plain Keras again.

A layer stays of the class that it was made of, so the network is cloned. Both ways the clone has the names, variables and
config of the original; only the classes of some layers differ.
"""

import keras

from dr_tf.models.keras_private import layers_within, made_by, put_in_place
from dr_tf.models.layers.batch_normalization import FusedBatchNormalization
from dr_tf.models.layers.pointwise import SteppedConv2D

_OWN = (FusedBatchNormalization, SteppedConv2D)


def own_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The `clone_function` for `keras.models.clone_model` that brings this project's layers in, also inside of others.

    Not reached is what a layer makes only when it is built.
    """
    return _cloned(layer, _own_class)


def own(model: keras.Model) -> keras.Model:
    """A copy of a network, with this project's layers and the same values."""
    return _with_values_of(model, _cloned(model, _own_class))


def with_safe_gradients(model: keras.Model) -> keras.Model:
    """The network, or a copy without the layers of Keras whose gradient can write beyond its memory (`pointwise.py`)."""
    if not any(SteppedConv2D.replaces(layer) for layer in layers_within(model)):
        return model
    return _with_values_of(model, _cloned(model, _stepped_class))


def plain(model: keras.Model) -> keras.Model:
    """A copy of a network, of Keras' own layers alone and with the same values.

    It is what a finished network is saved as. Keras writes down the class of each layer, so that the file opens in Keras'
    safe mode where this project is not installed. The copy is for that and for predicting: Keras' own layers are slower to
    train, and their gradient can write beyond its memory on a CPU (`pointwise.py`).
    """
    return _with_values_of(model, _cloned(model, _keras_class))


def _own_class(layer):
    return next((kind for kind in _OWN if kind.replaces(layer)), type(layer))


def _stepped_class(layer):
    return SteppedConv2D if SteppedConv2D.replaces(layer) else type(layer)


def _keras_class(layer):
    return type(layer).__base__ if isinstance(layer, _OWN) else type(layer)


def _cloned(layer, class_of):
    if _is_network(layer):
        inputs = None if isinstance(layer, keras.Sequential) else keras.tree.map_structure(_input_like, layer.input)
        return keras.models.clone_model(layer, inputs, clone_function=lambda inner: _cloned(inner, class_of))
    clone = class_of(layer).from_config(layer.get_config())
    if isinstance(clone, keras.layers.Layer):  # a graph has operations as well
        _exchange_inside(clone, class_of)
    return clone


def _input_like(tensor):
    """With the name of the input, which Keras by itself would call after its tensor."""
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=made_by(tensor).name)


def _exchange_inside(layer, class_of):
    for inner in layers_within(layer, itself=False, recursive=False):
        if _is_network(inner) or class_of(inner) is not type(inner):
            put_in_place(layer, inner, _cloned(inner, class_of))
        else:
            _exchange_inside(inner, class_of)


def _is_network(layer):
    """Of a network that is a graph or a chain; one that is a subclass with a `call` of its own is like any layer."""
    return isinstance(layer, keras.Sequential) or hasattr(layer, "operations")


def _with_values_of(model, clone):
    clone.set_weights(model.get_weights())
    for one, other in zip(layers_within(clone), layers_within(model), strict=True):
        finalize(one)
        if hasattr(one, "seed_generator"):  # dropout; one made with a rate of 0 has none
            one.seed_generator.state.assign(other.seed_generator.state.numpy())
    return clone


def finalize(layer):
    """After new weights: keras.layers.Normalization works by constants that it makes of them."""
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()
