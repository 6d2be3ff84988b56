"""Write a SavedModel for TensorFlow Serving, with signatures for pixels and for JPEG files, and a warm-up request.

The weights are constants of the graph: it has no variables, and serving needs none of Keras or dr_tf.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from dr_tf.export.graph import freeze

VERSION = "1"  # TensorFlow Serving serves the highest numbered folder
PIXELS, JPEG = "serving_default", "serve_jpeg"
SERVING_CONFIG = "models.config"
_WARM_UP = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"
_CONFIG = """model_config_list {{
  config {{
    name: "dr_tf"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""


def write_saved_model(folder: str | os.PathLike, function: Any, signature: dict[str, tf.TensorSpec]) -> None:
    """Write FOLDER/1 with the signatures "serving_default" (pixels) and "serve_jpeg" (bytes), and a warm-up request.

    Args:
        folder: the folder that TensorFlow Serving takes as the base path of the model.
        function: a `tf.function`, from {name: tensor} to {name: tensor}.
        signature: its inputs: uint8 images and, for a paired network, what it takes beside them.
    """
    module, frozen = tf.Module(), freeze(function, signature)

    def from_pixels(**images):
        return frozen(images)

    def from_jpeg(**files):
        return frozen({name: _decode(x, signature[name]) if name in pictures else x for name, x in files.items()})

    pictures = [name for name, spec in signature.items() if spec.dtype == tf.uint8]
    specs = {
        name: tf.TensorSpec([None], tf.string, name=name) if name in pictures else signature[name] for name in signature
    }
    module.pixels = tf.function(from_pixels, autograph=False)
    module.jpeg = tf.function(from_jpeg, autograph=False)
    signatures = {
        PIXELS: module.pixels.get_concrete_function(**signature),
        JPEG: module.jpeg.get_concrete_function(**specs),
    }
    path = pathlib.Path(folder) / VERSION
    tf.saved_model.save(module, str(path), signatures=signatures)
    _write_warm_up(path, signature)


def write_serving_config(path: str | os.PathLike, name: str) -> None:
    """Write a `--model_config_file` of TensorFlow Serving for a model below /models, where its images look."""
    pathlib.Path(path).write_text(_CONFIG.format(name=name), encoding="utf-8")


def _decode(files, spec):
    """Decode JPEG files of prepared crops; those of another size are resized by area, as crops are for training."""
    side = spec.shape[1]

    def one(data):
        pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
        resized = tf.image.resize(pixels, [side, side], method="area")
        return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)

    return tf.map_fn(one, files, fn_output_signature=tf.TensorSpec([side, side, 3], tf.uint8))


def _write_warm_up(path, signature):
    """One request of a black image: TensorFlow Serving sends it before it reports the model as available."""
    arrays = {name: np.zeros([1, *spec.shape[1:]], spec.dtype.as_numpy_dtype) for name, spec in signature.items()}
    (path / _WARM_UP).parent.mkdir()
    with tf.io.TFRecordWriter(str(path / _WARM_UP)) as writer:
        writer.write(_prediction_log(arrays))


def _prediction_log(arrays: dict[str, np.ndarray]) -> bytes:
    """Encode a `tensorflow.serving.PredictionLog` of one PredictRequest.

    Its definition is in TensorFlow Serving's own package, which nothing else here needs. The message is nested length-
    prefixed fields: predict_log (6), request (1), model_spec (1) and the entries of the map of inputs (2).
    """
    model_spec = _field(1, b"dr_tf") + _field(3, PIXELS.encode())
    inputs = b"".join(
        _field(2, _field(1, name.encode()) + _field(2, tf.make_tensor_proto(array).SerializeToString()))
        for name, array in arrays.items()
    )
    return _field(6, _field(1, _field(1, model_spec) + inputs))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
