"""Finds the layer whose activations a class activation map is made of, by its name, also inside nested layers."""

import dataclasses
import difflib
import math

import keras
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.models.keras_private import layers_within, made_by, nodes_of_graph, outputs_of
from dr_tf.models.stages import feature_maps

# Coarser maps cover more than a lesion, finer ones are of edges: the best of the scorecard with `methods.DEFAULT_METHOD`.
DEFAULT_LAYER = "stride_16"
_NAMED = 12  # layers that a line about an unknown one names


def _shallow_copy(thing):
    """copy.copy would save and load it: Keras' layers say so to pickle."""
    copy = object.__new__(type(thing))
    vars(copy).update(vars(thing))
    return copy


def _graph(layer, replaced):
    """{attribute: value} of a network that runs as a graph, of whose operations each becomes what `replaced` makes of it."""
    nodes = nodes_of_graph(layer)
    return {
        name: {depth: [_node(node, replaced) for node in of] for depth, of in by.items()} for name, by in nodes.items()
    }


def _node(node, replaced):
    copy = _shallow_copy(node)
    copy.operation = replaced(node.operation)
    return copy


@dataclasses.dataclass(frozen=True)
class Place:
    name: str
    layer: keras.layers.Layer
    entering: bool = False  # what goes into the layer, not what comes out of it


def find(model, name=None):
    """The place of this name: "stride_N", or a layer, "block_3/conv" where it lies in another. None: the usual one.

    That is DEFAULT_LAYER, or the last map of a network without it. A transformer has no map: its patches are read where
    they enter the last attention, as after it the class token alone is used, and what the patches become there is of no
    effect.
    """
    strides, layers = _strides(model), dict(_walk(model))
    if name is None:
        return _usual(strides, layers)
    if name in strides:
        return Place(name, strides[name])
    found = [layer for path, layer in layers.items() if path == name or path.endswith(f"/{name}")]
    if len({id(layer) for layer in found}) == 1:
        return Place(name, found[0])
    known = [*strides, *_maps(layers)]
    if found:
        paths = [path for path in layers if path.endswith(f"/{name}")]
        raise UserError(f"several layers are called {name!r}: {', '.join(paths[:_NAMED])}")
    raise UserError(f"there is no layer {name!r}; there are {_some(known, name)}")


def _usual(strides, layers):
    if strides:
        name = DEFAULT_LAYER if DEFAULT_LAYER in strides else list(strides)[-1]
        return Place(name, strides[name])
    attentions = [(path, layer) for path, layer in layers.items() if "Attention" in type(layer).__name__]
    if attentions:
        path, layer = attentions[-1]
        return Place(f"the patches that enter {path}", layer, entering=True)
    if maps := _maps(layers):
        return Place(maps[-1], layers[maps[-1]])
    raise UserError("the network has no feature map that a photograph's places could be told from")


def _strides(model):
    """{"stride_4": layer, ...} of the network or of the first one inside it that has such marks."""
    for part in (model, *(layer for _, layer in _walk(model) if isinstance(layer, keras.Model))):
        if isinstance(part.input_shape, tuple) and (maps := feature_maps(part)):
            return {name: made_by(tensor) for name, tensor in maps.items()}
    return {}


def _walk(layer, path=""):
    for inner in layers_within(layer, itself=False, recursive=False):
        yield f"{path}{inner.name}", inner
        yield from _walk(inner, f"{path}{inner.name}/")


def _maps(layers):
    """Names of the layers that are known to give maps: layers inside of layers do not say what they give."""
    return [path for path, layer in layers.items() if not isinstance(layer, keras.layers.InputLayer) and _is_map(layer)]


def _is_map(layer):
    return any(len(tensor.shape) == 4 and tensor.shape[1] != 1 for tensor in outputs_of(layer))


def _some(known, name):
    if len(known) <= _NAMED:
        return ", ".join(known)
    near = difflib.get_close_matches(name, known, _NAMED, cutoff=0.5)
    shown = list(dict.fromkeys([*(k for k in known if k.startswith("stride_")), *near, *known[::-1]]))[:_NAMED]
    return f"{', '.join(shown)} and {len(known) - len(shown)} more"


def tapped(model, places, tape):
    """(network, seen): what gives the same as `model`, and the list of what passes each place when it is called.

    `seen` then holds a tensor for each call of the place's layer, and `tape` records from there on. A network need not be
    cut for that: the layer may lie inside of others, be shared by two eyes, or be bypassed. `model` stays as it is, so
    others may use it meanwhile: along the way to the taps its parts are copied, shallowly, and share their variables.
    """
    seen = [[] for _ in places]
    taps = {id(place.layer): _tap(place, into, tape) for place, into in zip(places, seen, strict=True)}
    return _copied(model, taps, {}), seen


def _copied(part, taps, copies):
    """The part with taps in it; itself where there is none. `copies` holds what was made, by the id of what it is of."""
    if id(part) in copies:
        return copies[id(part)]
    if not isinstance(part, keras.layers.Layer) or taps.keys().isdisjoint(
        map(id, [part, *layers_within(part, itself=False)])
    ):
        return part
    copies[id(part)] = copy = _shallow_copy(part)
    own = vars(copy)  # set there, not as attributes, which Keras would take note of in what the copy shares
    own |= {name: _replaced(value, taps, copies) for name, value in own.items()}
    own |= _graph(part, lambda operation: _copied(operation, taps, copies))
    if id(part) in taps:
        own["call"] = taps[id(part)](copy.call)
    return copy


def _replaced(value, taps, copies):
    """What an attribute of a copied layer is, with copies in the places of layers that have them."""
    if isinstance(value, list) or type(value) is tuple:
        inner = [_replaced(one, taps, copies) for one in value]
        same = all(one is before for one, before in zip(inner, value, strict=True))
        return value if same else tuple(inner) if isinstance(value, tuple) else inner
    if isinstance(value, dict):
        inner = {key: _replaced(one, taps, copies) for key, one in value.items()}
        return value if all(inner[key] is value[key] for key in inner) else inner
    return _copied(value, taps, copies)


def _tap(place, seen, tape):
    def around(call):
        def entering(first, *others, **named):
            watch = _watched(first, seen, tape)
            return call(*_swapped([first, *others], first, watch), **_swapped(named, first, watch))

        def leaving(*arguments, **named):
            return _watched(call(*arguments, **named), seen, tape)

        return entering if place.entering else leaving

    return around


def _watched(tensor, seen, tape):
    tensor = tf.identity(tensor)
    tape.watch(tensor)
    seen.append(tensor)
    return tensor


def _swapped(arguments, old, new):
    """Self-attention takes the same patches as query, key and value: all of them have to be the ones that are watched."""
    if isinstance(arguments, dict):
        return {name: new if value is old else value for name, value in arguments.items()}
    return [new if value is old else value for value in arguments]


def grid(tensor, name):
    """[n, h, w, channels] as it is; of tokens [n, t, channels] the largest square, which the class token comes before."""
    if len(tensor.shape) == 3 and tensor.shape[1]:
        side = math.isqrt(tensor.shape[1])
        tensor = tf.reshape(tensor[:, tensor.shape[1] - side**2 :], (-1, side, side, tensor.shape[2]))
    if len(tensor.shape) != 4:
        shape = " x ".join(map(str, tensor.shape[1:]))
        raise UserError(f"{name} gives no map of the photograph's places: what it gives has the shape {shape}")
    return tensor
