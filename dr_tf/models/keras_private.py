"""All private names of Keras that this project uses, each behind one function.

Any minor version of Keras may change them. `setup.py` therefore excludes the minor versions that this module was not
tested with. To raise that bound, run `tests/models/keras_private_test.py`: it reports which names are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras


def layers_within(
    layer: keras.layers.Layer, *, include_self: bool = True, recursive: bool = True
) -> list[keras.layers.Layer]:
    """List a layer and the layers inside it, at any depth (`_flatten_layers`).

    Args:
        layer: A layer or a network.
        include_self: Whether `layer` comes first in the list.
        recursive: Whether to list the layers inside inner layers.
    """
    return layer._flatten_layers(include_self=include_self, recursive=recursive)


def producing_operation(tensor: keras.KerasTensor) -> keras.Operation:
    """Return the layer or operation that outputs a tensor of a network's graph (`_keras_history`)."""
    return tensor._keras_history.operation


def source_tensors(tensor: keras.KerasTensor) -> list[keras.KerasTensor]:
    """List the inputs of the call that outputs a tensor of a network's graph (`_keras_history`, `_inbound_nodes`)."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors


def output_tensors(layer: keras.layers.Layer) -> list[keras.KerasTensor]:
    """List the outputs of each call of a layer in the graphs that contain it (`_inbound_nodes`)."""
    return [tensor for node in layer._inbound_nodes for tensor in node.output_tensors]


def layer_calls(layer: keras.layers.Layer) -> list[tuple[list[keras.KerasTensor], list[keras.KerasTensor]]]:
    """List (inputs, outputs) of each call of a layer in the graphs that contain it (`_inbound_nodes`)."""
    return [(node.input_tensors, node.output_tensors) for node in layer._inbound_nodes]


def graph_nodes(layer: keras.layers.Layer) -> dict[str, dict[int, list[Any]]]:
    """Return the nodes that a functional network runs, as {attribute name: {depth: nodes}} (`_nodes_by_depth`).

    Empty for any other layer.
    """
    name = "_nodes_by_depth"
    return {name: vars(layer)[name]} if name in vars(layer) else {}


def output_in_graph(model: keras.Model, layer: keras.layers.Layer) -> keras.KerasTensor:
    """Return the output of a layer in the graph of a network, also if other networks share the layer (`_nodes_by_depth`)."""
    nodes = [node for nodes in model._nodes_by_depth.values() for node in nodes]
    return next(node.output_tensors[0] for node in nodes if node.operation is layer)


def replace_inner_layer(parent: keras.layers.Layer, old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Replace a layer directly inside another layer, at the same position of Keras' list of inner layers (`_tracker`).

    It works for parents that are not built yet, and not for networks, whose graph would still run through `old`. If the
    parent holds `old` in anything but an attribute or a list attribute, nothing is replaced.

    Args:
        parent: The outer layer.
        old: The inner layer to replace.
        new: The layer to call instead.
    """
    attributes = {name: value for name, value in vars(parent).items() if name != "_layers"}
    names = [name for name, value in attributes.items() if value is old]
    lists = [value for value in attributes.values() if isinstance(value, list) and any(item is old for item in value)]
    if not names and not lists:
        return
    parent._tracker.replace_tracked_value("layers", old, new)
    for name in names:
        setattr(parent, name, new)
    for items in lists:
        items[:] = [new if item is old else item for item in items]


def build_for(model: keras.Model, element_spec: Any) -> None:
    """Build a compiled network and its metrics for batches of a spec, without running it (`_symbolic_build`)."""
    model._symbolic_build(data_batch=element_spec)


def never_build_again(model: keras.Model) -> None:
    """Disable the build on the first batch of `fit` and `evaluate` (`_maybe_symbolic_build`)."""
    model._maybe_symbolic_build = lambda **_: None


def never_sum_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Disable an optimizer's sum over devices of gradients that are clipped already (`_all_reduce_sum_gradients`)."""
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables


def moving_averages(optimizer: keras.optimizers.Optimizer) -> Sequence[keras.Variable]:
    """Return the weight averages of an optimizer with `use_ema`, in the order of its variables.

    (`_model_variables_moving_average`)
    """
    return optimizer._model_variables_moving_average


def index_of(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Return the index of a variable among those that an optimizer was built for (`_get_variable_index`).

    Args:
        optimizer: A built optimizer.
        variable: The variable of Keras or of TensorFlow: `update_step` receives the latter.
    """
    return optimizer._get_variable_index(variable)


class OwnWeightDecay:
    """Mixin that delegates an optimizer's weight decay to `decay_weights(variables, decay)`.

    It comes before the optimizer in the list of base classes. `decay(variables)` is the optimizer's own weight decay,
    `_apply_weight_decay`.
    """

    decay_weights: Callable[[Any, Callable[[Any], None]], None]

    def _apply_weight_decay(self, variables):
        self.decay_weights(variables, super()._apply_weight_decay)
