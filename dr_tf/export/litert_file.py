"""Convert a TensorFlow function to a LiteRT file of LiteRT's own operators."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.export.graph import freeze


def to_litert(function: Any, signature: dict[str, tf.TensorSpec]) -> bytes:
    """Convert a function to a LiteRT file.

    Args:
        function: a `tf.function`, from {name: tensor} to {name: tensor}.
        signature: its inputs.

    Raises:
        UserError: the network needs operators that LiteRT does not have.
    """
    # Variables as constants: the converter leaves them as variables that nothing sets, and every output is NaN.
    constant = tf.function(freeze(function, signature), input_signature=[signature], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([constant.get_concrete_function()], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # never SELECT_TF_OPS: few devices have them
    try:
        return converter.convert()
    except Exception as error:  # the converter has no common class of its exceptions
        line = str(error).strip().splitlines()[0][:200]
        raise UserError(f"the network cannot be converted to LiteRT's own operators: {line}") from None


def quantize_litert(path: str | os.PathLike, images: Iterable[dict[str, np.ndarray]]) -> bytes:
    """Quantize the weights and activations of a LiteRT file to int8.

    Args:
        path: of the file in float32.
        images: batches of one case, {name of an input: array}, whose activations set the ranges.

    Returns:
        The content of the quantized file.
    """
    from litert_quantizer import quantizer, recipe

    tool = quantizer.Quantizer(str(pathlib.Path(path)), recipe.static_wi8_ai8())
    calibrated = tool.calibrate({"serving_default": [dict(batch) for batch in images]})
    return bytes(tool.quantize(calibrated).quantized_model)
