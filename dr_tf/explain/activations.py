"""Find the layers that a map is computed from: one by its name, or all attention layers of a transformer."""

from __future__ import annotations

import dataclasses
import difflib
import math
from typing import Literal

import keras

from dr_tf.console import UserError
from dr_tf.models.keras_private import layers_within, output_tensors, producing_operation
from dr_tf.models.stages import EVIDENCE, feature_maps

# Coarser maps cover more than a lesion, finer ones show edges. With `methods.DEFAULT_METHOD` this layer pointed best at
# real lesions.
DEFAULT_LAYER = "stride_16"
_LISTED = 12  # layers in an error message


@dataclasses.dataclass(frozen=True)
class MapLayer:
    """The layer whose activations a map is computed from.

    Attributes:
        name: Its name, for people.
        layer: The layer.
        part: What of it is used: its output, its input, or the attention scores of a `MultiHeadAttention`.
    """

    name: str
    layer: keras.layers.Layer
    part: Literal["output", "input", "attention"] = "output"


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
        return MapLayer(f"the patches that enter {path}", layer, "input")
    if names := _feature_map_layers(layers):
        return MapLayer(names[-1], layers[names[-1]])
    raise UserError("the network has no feature map to compute a class-activation map from")


def find_attentions(model: keras.Model) -> list[MapLayer]:
    """List the attention scores of all attention layers of a network, from input to output.

    Raises:
        UserError: There are none.
    """
    layers = [pair for pair in _walk(model) if isinstance(pair[1], keras.layers.MultiHeadAttention)]
    if not layers:
        raise UserError("the network has no attention layer: attention_rollout is for vision transformers")
    return [MapLayer(path, layer, "attention") for path, layer in layers]


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
