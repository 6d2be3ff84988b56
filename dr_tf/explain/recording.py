"""Record the activations of layers while a network runs.

A layer may be inside other layers, be shared by two eyes, or have a shortcut around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.activations import MapLayer
from dr_tf.models.keras_private import graph_nodes, layers_within


def record_activations(
    model: keras.Model, map_layers: Sequence[MapLayer], tape: tf.GradientTape
) -> tuple[keras.Model, list[list[tf.Tensor]]]:
    """Copy a network so that it records the activations of some layers.

    The copy is shallow and shares all variables. `model` itself does not change, so other threads can use it meanwhile.

    Args:
        model: The network.
        map_layers: The layers.
        tape: The tape that watches the activations.

    Returns:
        (the copy, activations). When the copy is called, the list of each layer receives one tensor per call of that
        layer.
    """
    activations: list[list[tf.Tensor]] = [[] for _ in map_layers]
    recorders = {
        id(map_layer.layer): _recorder(map_layer, recorded, tape)
        for map_layer, recorded in zip(map_layers, activations, strict=True)
    }
    return _copy_with_recorders(model, recorders, {}), activations


def _copy_with_recorders(part, recorders, copies):
    """Copy a part of the network if it contains a layer to record. `copies`: {id of the original: its copy}."""
    if id(part) in copies:
        return copies[id(part)]
    if not isinstance(part, keras.layers.Layer) or recorders.keys().isdisjoint(
        map(id, [part, *layers_within(part, include_self=False)])
    ):
        return part
    copies[id(part)] = copy = _shallow_copy(part)
    attributes = vars(copy)  # set directly: Keras' __setattr__ would track the layers in lists shared with the original
    attributes |= {name: _replace_layers(value, recorders, copies) for name, value in attributes.items()}
    attributes |= _replace_in_graph(part, lambda operation: _copy_with_recorders(operation, recorders, copies))
    if id(part) in recorders:
        attributes["call"] = recorders[id(part)](copy.call)
    return copy


def _shallow_copy(instance):
    """Unlike copy.copy, which for Keras' layers saves and loads them (through pickle)."""
    copy = object.__new__(type(instance))
    vars(copy).update(vars(instance))
    return copy


def _replace_layers(value, recorders, copies):
    """Replace layers in an attribute, also in lists, tuples and dicts; return the same object if nothing changes."""
    if isinstance(value, list) or type(value) is tuple:
        items = [_replace_layers(item, recorders, copies) for item in value]
        same = all(item is before for item, before in zip(items, value, strict=True))
        return value if same else tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, dict):
        items = {key: _replace_layers(item, recorders, copies) for key, item in value.items()}
        return value if all(items[key] is value[key] for key in items) else items
    return _copy_with_recorders(value, recorders, copies)


def _replace_in_graph(layer, replace):
    """The graph attributes of a functional network, with every operation passed through `replace`."""
    return {
        name: {depth: [_replace_in_node(node, replace) for node in nodes] for depth, nodes in by_depth.items()}
        for name, by_depth in graph_nodes(layer).items()
    }


def _replace_in_node(node, replace):
    copy = _shallow_copy(node)
    copy.operation = replace(node.operation)
    return copy


def _recorder(map_layer: Any, recorded: Any, tape: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator of a layer's `call` that records the layer's output, input or attention scores."""

    def decorate(call):
        def record_input(first, *others, **named):
            watched = _watch(first, recorded, tape)
            return call(*_substitute([first, *others], first, watched), **_substitute(named, first, watched))

        def record_output(*arguments, **named):
            return _watch(call(*arguments, **named), recorded, tape)

        def record_attention(*arguments, **named):
            # A second call, as Keras computes the output in another way, with other rounding, when it returns scores.
            _, scores = call(*arguments, **named | {"return_attention_scores": True})
            _watch(scores, recorded, tape)
            return call(*arguments, **named)

        return {"input": record_input, "output": record_output, "attention": record_attention}[map_layer.part]

    return decorate


def _watch(tensor, recorded, tape):
    tensor = tf.identity(tensor)
    tape.watch(tensor)
    recorded.append(tensor)
    return tensor


def _substitute(arguments, old, new):
    """Self-attention takes the same patches as query, key and value: all of them have to be the watched tensor."""
    if isinstance(arguments, dict):
        return {name: new if value is old else value for name, value in arguments.items()}
    return [new if value is old else value for value in arguments]


def to_feature_map(tensor: tf.Tensor, name: str, *, mirrored: bool = False) -> tf.Tensor:
    """Reshape activations to a feature map [n, h, w, channels].

    Args:
        tensor: A feature map, which is returned as it is, or tokens [n, tokens, channels]. Of tokens, the last ones
            that form the largest possible square are used, which skips the class token at the beginning.
        name: Name of the layer, for the error message.
        mirrored: Whether the network mirrored the image: the feature map is mirrored back.

    Raises:
        UserError: The activations have another shape.
    """
    if len(tensor.shape) == 3 and tensor.shape[1]:
        side = math.isqrt(tensor.shape[1])
        tensor = tf.reshape(tensor[:, tensor.shape[1] - side**2 :], (-1, side, side, tensor.shape[2]))
    if len(tensor.shape) != 4:
        shape = " x ".join(map(str, tensor.shape[1:]))
        raise UserError(f"{name} gives no feature map: its output has the shape {shape}")
    return tf.reverse(tensor, [2]) if mirrored else tensor
