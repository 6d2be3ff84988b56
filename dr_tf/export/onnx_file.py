"""Convert a TensorFlow function to an ONNX file with readable names."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf

OPSET = 17
_LARGE = 1024  # elements from which on a tensor is stored as float16
_BATCH = "batch"
PRODUCTS = ("Conv", "MatMul", "Gemm")  # the operators with large weights


def to_onnx(function: Any, signature: dict[str, tf.TensorSpec]) -> Any:
    """Convert a function of a dict of tensors to an ONNX model.

    Args:
        function: a `tf.function`, from {name: tensor} to {name: tensor}.
        signature: its inputs.

    Returns:
        An `onnx.ModelProto` whose inputs and outputs have these names and a first axis called "batch".
    """
    import tf2onnx

    _add_erfc()
    with _quiet():
        model, _ = tf2onnx.convert.from_function(function, input_signature=[signature], opset=OPSET)
    _rename(model, signature)
    _name_batch_axis(model)
    for entry in [entry for entry in model.opset_import if entry.domain not in ("", "ai.onnx")]:
        model.opset_import.remove(entry)  # no node is of that domain
    _name_by_place(model.graph)
    return model


def _add_erfc() -> None:
    """Teach tf2onnx 1.17 the operator `Erfc`, which exact GELU uses: erfc(x) = 1 - erf(x).

    Without it the operator stays in the file after a logged warning, and ONNX Runtime cannot load it.
    """
    from tf2onnx.handler import tf_op

    class Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
            source, output = node.input[0], node.output[0]
            ctx.remove_node(node.name)
            one = ctx.make_const(f"{node.name}_one", np.array(1, np.float32))
            erf = ctx.make_node("Erf", [source], dtypes=[dtype], shapes=[shape])
            ctx.make_node(
                "Sub", [one.output[0], erf.output[0]], name=node.name, outputs=[output], dtypes=[dtype], shapes=[shape]
            )

    tf_op("Erfc")(Erfc)


class _quiet:  # noqa: N801 - used as a context manager
    """Silence the log of tf2onnx: what matters in it is found by loading and comparing the file."""

    def __enter__(self):
        import logging

        self._logger = logging.getLogger("tf2onnx")
        self._level = self._logger.level
        self._logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_):
        self._logger.setLevel(self._level)


def _rename(model, signature):
    """Rename inputs to those of the signature; tf2onnx may prefix or suffix them."""
    names = {}
    for node in model.graph.input:
        plain = node.name.split(":")[0]
        if plain not in signature:
            plain = next((name for name in sorted(signature, key=len, reverse=True) if plain.endswith(name)), plain)
        names[node.name] = plain
        node.name = plain
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _name_batch_axis(model):
    for node in [*model.graph.input, *model.graph.output]:
        dimensions = node.type.tensor_type.shape.dim
        if dimensions:
            dimensions[0].ClearField("dim_value")
            dimensions[0].dim_param = _BATCH
        for dimension in dimensions[1:]:
            if dimension.dim_param.startswith("unk__"):
                dimension.ClearField("dim_param")


def _name_by_place(graph):
    """Sort and name nodes and weights by their place before the outputs: tf2onnx's own order and names differ by chance."""
    names = {entry.name: entry.name for entry in [*graph.input, *graph.output]}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes, used = list(_sorted_nodes(graph)), {}
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number}"
        for place, name in enumerate(node.input):
            if name in weights:
                used[name] = weights[name]
                names.setdefault(name, f"{node.name}_input_{place}")
        for place, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}_{place}" if place else node.name)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for name, tensor in used.items():
        tensor.name = names[name]
    for field, values in (("node", nodes), ("initializer", used.values()), ("value_info", ())):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        graph.ClearField(field)
        getattr(graph, field).extend(copies)


def _sorted_nodes(graph):
    """Yield the nodes that the outputs need, each after those that it needs, in an order that only the graph determines."""
    made_by = {name: node for node in graph.node for name in node.output}
    taken = set()
    waiting = [(output.name, False) for output in reversed(graph.output)]
    while waiting:  # not a recursion: networks are deep
        name, is_next = waiting.pop()
        node = made_by.get(name)
        if is_next:
            yield node
        elif node is not None and node.output[0] not in taken:
            taken.add(node.output[0])
            waiting += [(name, True), *((needed, False) for needed in reversed(node.input))]


def halve_weights(model: Any) -> None:
    """Store the large float32 weights of convolutions and products as float16, and convert them back in the graph.

    ONNX Runtime converts them once, when it loads the file. Weights beyond the range of float16 stay as they are.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = model.graph, []
    weights = {name for node in graph.node if node.op_type in PRODUCTS for name in node.input[:2]}
    for index, tensor in enumerate(graph.initializer):
        is_large = tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= _LARGE
        if tensor.name not in weights or not is_large:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        half = f"{tensor.name}_half"
        casts.append(helper.make_node("Cast", [half], [tensor.name], name=f"{half}_cast", to=TensorProto.FLOAT))
        graph.initializer[index].CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def save(model: Any, path: str | os.PathLike) -> None:
    """Write an ONNX model to a file."""
    with open(path, "wb") as file:
        file.write(model.SerializeToString())
