"""Quantize an ONNX file to int8: static, per channel, with ranges from photographs of the calibration split."""

from __future__ import annotations

import logging
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.export.onnx_file import PRODUCTS, halve_weights, save
from dr_tf.inference.export_file import FEATURES

# What stands between products is quantized with them, so that activations stay in int8.
OPERATORS = (*PRODUCTS, "Add", "Clip", "Relu")


def quantize_onnx(
    source: str | os.PathLike, target: str | os.PathLike, batches: Sequence[Mapping[str, np.ndarray]], **options: Any
) -> None:
    """Quantize the weights and activations of the convolutions and products of an ONNX file.

    Activations are unsigned, weights are signed and use 7 of their 8 bits: on processors with AVX2 and without VNNI the
    sums of products of full-range values saturate, which makes a network fast and wrong. Some layers stay in float, see
    `float_nodes`.

    Args:
        source: the file in float32.
        target: the file to write.
        batches: batches of one case, {name of an input: array}, whose activations set the ranges.
        **options: of `onnxruntime.quantization.quantize_static`, in place of the project's own.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it logs advice at the level of warnings
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared = pathlib.Path(folder) / "prepared.onnx"
            quant_pre_process(os.fspath(source), os.fspath(prepared), skip_symbolic_shape=True)
            defaults = {
                "quant_format": QuantFormat.QDQ,
                "activation_type": QuantType.QUInt8,
                "weight_type": QuantType.QInt8,
                "reduce_range": True,
                "per_channel": True,
                "op_types_to_quantize": list(OPERATORS),
                "nodes_to_exclude": float_nodes(prepared),
                "calibrate_method": CalibrationMethod.MinMax,
                "extra_options": {"MatMulConstBOnly": True},
            }
            quantize_static(os.fspath(prepared), os.fspath(target), _reader(batches), **{**defaults, **options})
            model = onnx.load(os.fspath(target))
            halve_weights(model)  # of the layers that stay in float
            save(model, target)
    finally:
        logging.getLogger().setLevel(level)


def float_nodes(path: str | os.PathLike) -> list[str]:
    """Return the nodes of an ONNX file that stay in float.

    Depthwise convolutions, whose few weights have very different ranges; the first convolution, which sees lesions of a
    few grey levels; and the last products, which decide and take next to no time.
    """
    import onnx

    graph = onnx.load(os.fspath(path)).graph
    products = [node for node in graph.node if node.op_type in PRODUCTS]
    depthwise = [node.name for node in products if _group(node) > 1]
    first = [node.name for node in products if node.op_type == "Conv"][:1]
    ends = {output.name for output in graph.output} - {FEATURES}
    last = [node.name for node in products if _follows(graph, node) & ends]
    return list(dict.fromkeys([*depthwise, *first, *last]))


def _group(node):
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _follows(graph, product):
    """The names that follow from a product without another one."""
    names = set(product.output)
    for node in graph.node:
        if node.op_type not in PRODUCTS and names & set(node.input):
            names |= set(node.output)
    return names


def _reader(batches):
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[Any] = iter(batches)

        def get_next(self) -> Any:
            batch = next(self._batches, None)
            return None if batch is None else dict(batch)

    return Reader()
