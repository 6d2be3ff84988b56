"""All that this project takes of Keras without Keras having promised it: each private name, and what it stands for.

Any of these may change with a minor version. `setup.py` therefore ends below the first minor version that nothing here was
tried with; whoever raises that bound runs `tests/models/keras_private_test.py`, which says what has gone.
"""

from collections.abc import Sequence

import keras


def layers_within(
    layer: keras.layers.Layer, *, itself: bool = True, recursive: bool = True
) -> list[keras.layers.Layer]:
    """`_flatten_layers`: a layer and those inside of it, at any depth.

    Args:
        layer: A layer or a network.
        itself: Whether `layer` comes first among them.
        recursive: Whether the layers inside of those inside are among them.
    """
    return layer._flatten_layers(include_self=itself, recursive=recursive)


def made_by(tensor: keras.KerasTensor) -> keras.Operation:
    """`_keras_history`: the layer or operation that a tensor of a network's graph comes out of."""
    return tensor._keras_history.operation


def outputs_of(layer: keras.layers.Layer) -> list[keras.KerasTensor]:
    """`_inbound_nodes`: what comes out of a layer in the graphs that it is part of, for each call of it."""
    return [tensor for node in layer._inbound_nodes for tensor in node.output_tensors]


def calls_of(layer: keras.layers.Layer) -> list[tuple[list[keras.KerasTensor], list[keras.KerasTensor]]]:
    """`_inbound_nodes`: what goes into a layer and what comes out of it, for each call of it in a network's graph."""
    return [(node.input_tensors, node.output_tensors) for node in layer._inbound_nodes]


def nodes_of_graph(layer: keras.layers.Layer) -> dict[str, dict]:
    """`_nodes_by_depth`: the calls that a network runs as a graph consists of, {the attribute's name: {depth: nodes}}.

    Empty for a layer that is no such network.
    """
    name = "_nodes_by_depth"
    return {name: vars(layer)[name]} if name in vars(layer) else {}


def put_in_place(parent: keras.layers.Layer, old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """`_tracker`: what a layer knows its inner layers by, in their order. Exchanges one of them.

    For layers that are not built yet, and not for networks, whose graph would still run through `old`. Where `old` is
    kept otherwise than as an attribute or in a list that is one, it stays.

    Args:
        parent: The layer that `old` is directly inside of.
        old: An inner layer.
        new: What is to be called in its place.
    """
    held = {name: value for name, value in vars(parent).items() if name != "_layers"}
    names = [name for name, value in held.items() if value is old]
    lists = [value for value in held.values() if isinstance(value, list) and any(item is old for item in value)]
    if not names and not lists:
        return
    parent._tracker.replace_tracked_value("layers", old, new)
    for name in names:
        setattr(parent, name, new)
    for kept in lists:
        kept[:] = [new if item is old else item for item in kept]


def build_for(model: keras.Model, element_spec) -> None:
    """`_symbolic_build`: builds a compiled network, its metrics included, for batches of this kind without running it."""
    model._symbolic_build(data_batch=element_spec)


def never_build_again(model: keras.Model) -> None:
    """`_maybe_symbolic_build`: what `fit` and `evaluate` call to build a network on a first batch."""
    model._maybe_symbolic_build = lambda **_: None


def never_sum_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """`_all_reduce_sum_gradients`: how an optimizer sums, over devices, gradients that it has clipped already."""
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables


def moving_averages(optimizer: keras.optimizers.Optimizer) -> Sequence[keras.Variable]:
    """`_model_variables_moving_average`: with `use_ema`, the averages of the variables it was built for, in their order."""
    return optimizer._model_variables_moving_average


def index_of(optimizer: keras.optimizers.Optimizer, variable) -> int:
    """`_get_variable_index`: the place of a variable among those that an optimizer was built for.

    Args:
        optimizer: A built optimizer.
        variable: One of them, as Keras' or as TensorFlow's: an optimizer's `update_step` is given the latter.
    """
    return optimizer._get_variable_index(variable)


class OwnWeightDecay:
    """Before an optimizer among the bases of a class: weights are pulled at by `decay_weights(variables, decay)`.

    `decay` is what the optimizer does by itself, its `_apply_weight_decay(variables)`.
    """

    def _apply_weight_decay(self, variables):
        self.decay_weights(variables, super()._apply_weight_decay)
