"""Where the stages of a backbone end: told by layers in the network that do nothing but bear a name.

Such a mark, `stage_NAME`, follows the last layer of each stage. Being a layer it survives saving, and a network can be
cut there: `keras.Model(model.input, [feature_maps(model)["stride_32"], model.output])`, or from the map to the output.
"""

import math

import keras

from dr_tf.models.keras_private import calls_of, layers_within

_PREFIX = "stage_"


def mark(stage):
    return keras.layers.Identity(name=_PREFIX + stage)


def marks(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Identity) and _named(layer)]


def stages(model):
    """{stage: its layers}, from input to output; the head has no stage.

    Everything flows through the end of a stage, so what stands before it in the order of layers belongs to it.
    """
    found, waiting = {}, []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Identity) and _named(layer):
            found[layer.name.removeprefix(_PREFIX)] = waiting
            waiting = []
        elif isinstance(layer, keras.Model) and (inner := stages(layer)):
            found |= inner
        else:
            waiting.append(layer)
    return found


def frozen_end(model):
    """The last tensor of the last stage up to which nothing is trained; None where the first stage is."""
    end = None
    for layer, stage in zip(marks(model), stages(model).values(), strict=True):
        if any(inner.trainable_variables for inner in stage):
            break
        end = layer.output
    return end


def features_of_eyes(model):
    """(the network that looks at each eye, {eye: what it says of it}) of a network of both eyes."""
    shared = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    said = {id(given[0]): out[0] for given, out in calls_of(shared)}
    return shared, {eye: said[id(tensor)] for eye, tensor in model.input.items() if id(tensor) in said}


def stage_of(model):
    """{variable's path: stage} of the backbone's variables, from input to output."""
    return {v.path: stage for stage, layers in stages(model).items() for layer in layers for v in layer.variables}


def feature_maps(model):
    """{"stride_4": tensor, ...}: for each size the last map of it, from large to small; also of a network that was loaded."""
    found, stride, side = {}, 1, model.input_shape[1]
    for tensor in (layer.output for layer in marks(model) if len(layer.output.shape) == 4):
        # From map to map, as a side of 65 becomes 33, 17, 9, 5, 3: 65 / 3 alone does not look like 32.
        stride *= 2 ** round(math.log2(side / tensor.shape[1]))
        side = tensor.shape[1]
        found[f"stride_{stride}"] = tensor
    return found


def freeze(layers):
    """Holds layers still: weights, batch-norm statistics, dropout.

    Keras runs batch norm of a layer that is not trainable by its moving statistics, but dropout goes on; and an inner
    network called with training=False is called with training=True all the same as soon as the outer one is (Keras
    3.15). What drops is therefore told to drop nothing.
    """
    for layer in layers:
        layer.trainable = False
        for inner in layers_within(layer):
            for rate in ("rate", "drop_path_rate"):
                if isinstance(getattr(inner, rate, None), (int, float)):
                    setattr(inner, rate, 0.0)


def _named(layer):
    return layer.name.startswith(_PREFIX)
