"""Find the layer that a class-activation map is computed from, by name, and record its activations.

The layer may be inside other layers, be shared by two eyes, or have a shortcut around it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.models.keras_private import graph_nodes, layers_within, output_tensors, producing_operation
from dr_tf.models.stages import EVIDENCE, feature_maps

# Coarser maps cover more than a lesion, finer ones show edges. With `methods.DEFAULT_METHOD` this layer scored best on
# the # scorecard.
DEFAULT_LAYER = "stride_16"
_LISTED = 12  # layers in an error message


@dataclasses.dataclass(frozen=True)
class MapLayer:
    """The layer whose activations a map is computed from.

    Attributes:
        name: Its name, for people.
        layer: The layer.
        at_input: Whether to use the input of the layer instead of its output.
    """

    name: str
    layer: keras.layers.Layer
    at_input: bool = False


def find_layer(model: keras.Model, name: str | None = None) -> MapLayer:
    """Find a layer by name.

    Args:
        model: The network.
        name: "stride_N" for the last feature map of a stride, or the name of a layer; "block_3/conv" for a layer inside
            another. By default `DEFAULT_LAYER`, or in a network without strides the last feature map. An `fcn_classifier`
            averages its last map into the decision: that map is the default. A vision transformer has no feature map: the
            default is the patches at the input of the last attention, because after it only the class token is used and
            the patches have no effect.

    Raises:
        UserError: There is no such layer, several layers have that name, or the network has no feature map at all.
    """
    strides, layers = _strides(model), dict(_walk(model))
    if name is None:
        return _default_layer(strides, layers)
    if name in strides:
        return MapLayer(name, strides[name])
    paths = [path for path in layers if path == name or path.endswith(f"/{name}")]
    if len({id(layers[path]) for path in paths}) == 1:
        return MapLayer(name, layers[paths[0]])
    if paths:
        raise UserError(f"several layers are called {name!r}; use a path: {', '.join(paths[:_LISTED])}")
    known = [*strides, *_feature_map_layers(layers)]
    raise UserError(f"there is no layer {name!r}; there are {_similar_names(known, name)}")


def _default_layer(strides, layers):
    if EVIDENCE in layers:
        return MapLayer(EVIDENCE, layers[EVIDENCE])
    if strides:
        name = DEFAULT_LAYER if DEFAULT_LAYER in strides else list(strides)[-1]
        return MapLayer(name, strides[name])
    attentions = [(path, layer) for path, layer in layers.items() if "Attention" in type(layer).__name__]
    if attentions:
        path, layer = attentions[-1]
        return MapLayer(f"the patches that enter {path}", layer, at_input=True)
    if names := _feature_map_layers(layers):
        return MapLayer(names[-1], layers[names[-1]])
    raise UserError("the network has no feature map to compute a class-activation map from")


def _strides(model):
    """{"stride_4": layer, ...} of the network, or of the first network inside it that has stage markers."""
    for part in (model, *(layer for _, layer in _walk(model) if isinstance(layer, keras.Model))):
        if isinstance(part.input_shape, tuple) and (maps := feature_maps(part)):
            return {name: producing_operation(tensor) for name, tensor in maps.items()}
    return {}


def _walk(layer, path=""):
    for inner in layers_within(layer, include_self=False, recursive=False):
        yield f"{path}{inner.name}", inner
        yield from _walk(inner, f"{path}{inner.name}/")


def _feature_map_layers(layers):
    """Names of the layers known to output feature maps. The outputs of layers inside layers are not known."""
    return [
        path for path, layer in layers.items() if not isinstance(layer, keras.layers.InputLayer) and _has_map(layer)
    ]


def _has_map(layer):
    return any(_is_map(tensor.shape) for tensor in output_tensors(layer))


def _is_map(shape):
    """A feature map, or tokens of a square of patches and a class token."""
    if len(shape) == 3 and shape[1]:
        return shape[1] > 2 and math.isqrt(shape[1] - 1) ** 2 == shape[1] - 1
    return len(shape) == 4 and shape[1] != 1


def _similar_names(known, name):
    if len(known) <= _LISTED:
        return ", ".join(known)
    similar = difflib.get_close_matches(name, known, _LISTED, cutoff=0.5)
    strides = [k for k in known if k.startswith("stride_")]
    listed = list(dict.fromkeys([*strides, *similar, *known[::-1]]))[:_LISTED]
    return f"{', '.join(listed)} and {len(known) - len(listed)} more"


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
    """A decorator of a layer's `call` that records the layer's input or output."""

    def decorate(call):
        def record_input(first, *others, **named):
            watched = _watch(first, recorded, tape)
            return call(*_substitute([first, *others], first, watched), **_substitute(named, first, watched))

        def record_output(*arguments, **named):
            return _watch(call(*arguments, **named), recorded, tape)

        return record_input if map_layer.at_input else record_output

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


def to_feature_map(tensor: tf.Tensor, name: str) -> tf.Tensor:
    """Reshape activations to a feature map [n, h, w, channels].

    Args:
        tensor: A feature map, which is returned as it is, or tokens [n, tokens, channels]. Of tokens, the last ones
            that form the largest possible square are used, which skips the class token at the beginning.
        name: Name of the layer, for the error message.

    Raises:
        UserError: The activations have another shape.
    """
    if len(tensor.shape) == 3 and tensor.shape[1]:
        side = math.isqrt(tensor.shape[1])
        tensor = tf.reshape(tensor[:, tensor.shape[1] - side**2 :], (-1, side, side, tensor.shape[2]))
    if len(tensor.shape) != 4:
        shape = " x ".join(map(str, tensor.shape[1:]))
        raise UserError(f"{name} gives no feature map: its output has the shape {shape}")
    return tensor
