"""Stages of a backbone: marker layers find, freeze and cut the stages of a network, also after it was saved and loaded.

An identity layer called `stage_NAME` follows the last layer of each stage. As it is a layer it survives saving, and the
network can be cut there: `keras.Model(model.input, [feature_maps(model)["stride_32"], model.output])`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras

from dr_tf.models.keras_private import layer_calls, layers_within, source_tensors

EVIDENCE = "evidence"  # name of the layer whose map an `fcn_classifier` averages over all places
_PREFIX = "stage_"


def stage_marker(stage: str) -> keras.layers.Layer:
    """Build the layer that marks the end of a stage."""
    return keras.layers.Identity(name=_PREFIX + stage)


def _is_marker(layer):
    return isinstance(layer, keras.layers.Identity) and layer.name.startswith(_PREFIX)


def _markers(model):
    return [layer for layer in model.layers if _is_marker(layer)]


def stages(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """Return {stage: its layers}, from input to output, also of a backbone inside the model. Heads have no stage.

    All data flows through the end of a stage, so every layer listed before that end belongs to it.
    """
    by_stage: dict[str, list[keras.layers.Layer]] = {}
    pending: list[keras.layers.Layer] = []
    for layer in model.layers:
        if _is_marker(layer):
            by_stage[layer.name.removeprefix(_PREFIX)] = pending
            pending = []
        elif isinstance(layer, keras.Model) and (inner := stages(layer)):
            for stage, its_layers in inner.items():  # of two backbones with the same stages all layers
                by_stage.setdefault(stage, []).extend(its_layers)
        else:
            pending.append(layer)
    return by_stage


def frozen_outputs(model: keras.Model) -> list[keras.KerasTensor]:
    """Return the tensors of the frozen stages that the rest of a network takes, from input to output.

    A classifier takes the last one. A decoder with skips takes one per stride. The list is empty if the first stage is
    trained, or if the rest also takes something else, such as the image.
    """
    ends = _frozen_ends(model)
    taken, seen, pending = set(), set(), list(model.outputs)
    while pending:
        tensor = pending.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if any(tensor is end for end in ends):
            taken.add(id(tensor))
        elif sources := source_tensors(tensor):
            pending += sources
        else:  # an input of the network
            return []
    return [end for end in ends if id(end) in taken]


def _frozen_ends(model):
    """Outputs of the stages before the first one that is trained."""
    ends = []
    for marker, layers in zip(_markers(model), stages(model).values(), strict=True):
        if any(layer.trainable_variables for layer in layers):
            break
        ends.append(marker.output)
    return ends


def eye_features(model: keras.Model) -> tuple[list[keras.Model], dict[str, keras.KerasTensor]]:
    """Find the backbone of each eye in a network of both eyes.

    Returns:
        (the backbones, one if both eyes share it; {eye: its output for that eye}).
    """
    eye_of_input = {id(tensor): eye for eye, tensor in model.input.items()}
    backbones: list[keras.Model] = []
    outputs: dict[str, keras.KerasTensor] = {}
    for network in (layer for layer in model.layers if isinstance(layer, keras.Model)):
        calls = [(eye_of_input.get(id(_source(inputs[0])), ""), out[0]) for inputs, out in layer_calls(network)]
        calls = [(eye, output) for eye, output in calls if eye]  # without those in other graphs
        outputs |= dict(calls)
        backbones += [network] if calls else []
    return backbones, outputs


def _source(tensor):
    """The input of a network that a tensor is computed from."""
    while sources := source_tensors(tensor):
        tensor = sources[0]
    return tensor


def stage_by_variable(model: keras.Model) -> dict[str, str]:
    """Return {path of a variable: stage} for the variables of the backbone, from input to output."""
    return {v.path: stage for stage, layers in stages(model).items() for layer in layers for v in layer.variables}


def feature_maps(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Return {"stride_4": tensor, ...}: for each size the last feature map, from large to small."""
    maps, stride, side = {}, 1, model.input_shape[1]
    for tensor in (layer.output for layer in _markers(model) if len(layer.output.shape) == 4):
        # From map to map, as a side of 65 becomes 33, 17, 9, 5, 3: the ratio 65 / 3 alone does not round to 32.
        stride *= 2 ** round(math.log2(side / tensor.shape[1]))
        side = tensor.shape[1]
        maps[f"stride_{stride}"] = tensor
    return maps


def freeze(layers: Iterable[keras.layers.Layer]) -> None:
    """Freeze layers completely: weights, batch-norm statistics and dropout.

    With `trainable = False` alone, Keras uses the moving statistics of batch norm but still applies dropout. Calling an
    inner network with training=False does not help: the outer network's training=True overrides it (Keras 3.15).
    Therefore all drop rates are set to 0.
    """
    for layer in layers:
        layer.trainable = False
        for inner in layers_within(layer):
            for rate in ("rate", "drop_path_rate"):
                if isinstance(getattr(inner, rate, None), (int, float)):
                    setattr(inner, rate, 0.0)
