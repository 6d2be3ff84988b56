"""Copy a network that computes in half precision to float32."""

from __future__ import annotations

import keras

from dr_tf.models.keras_private import layers_within

_HALF_PRECISION = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def in_float32(model: keras.Model) -> keras.Model:
    """Copy a network that computes in half precision, where gradients would underflow or overflow.

    Returns:
        The copy in float32; the network itself if it computes in float32 already.
    """
    if not any(layer.compute_dtype in _HALF_PRECISION for layer in layers_within(model)):
        return model
    copy = keras.saving.deserialize_keras_object(_replace_half(keras.saving.serialize_keras_object(model)))
    copy.set_weights(model.get_weights())
    return copy


def _replace_half(config):
    if isinstance(config, dict):
        return {key: _replace_half(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_replace_half(value) for value in config)
    return "float32" if isinstance(config, str) and config in _HALF_PRECISION else config
