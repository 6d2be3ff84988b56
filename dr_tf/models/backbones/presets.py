"""Backbone `keras_hub`: any keras-hub preset that has feature maps, by its handle or from a local folder."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence

import keras

from dr_tf.console import UserError
from dr_tf.models.backbones.backbone import Body
from dr_tf.parameters import Positive

# The presets of EfficientNet-Lite do not contain their normalization (Liu, "Higher accuracy on vision models with
# EfficientNet-Lite", 2020). Their ReLU6 distinguishes them from every other EfficientNet, whatever the folder is
# called.
_LITE = {"mean": 127.0, "std": 128.0}


def keras_hub(
    *,
    image_size: int,
    weights: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: Positive | Sequence[Positive] | None = None,
) -> Body:
    """Load the body from a preset.

    Args:
        image_size: Not used: the presets take images of any size.
        weights: A handle such as "resnet_50_imagenet", "hf://..." or "kaggle://...", or the folder of a preset.
        mean: RGB images 0-255 are normalized as (x - mean) / std; one number, or one per channel. None: the preset's
            own.
        std: As `mean`.

    Raises:
        UserError: The preset cannot be loaded, has no feature maps, or does not contain its normalization.
    """
    del image_size
    if weights is None:
        raise UserError("backbone keras_hub needs weights: a preset's handle, or the folder of one")
    preset = load_preset(weights)
    maps = getattr(preset, "pyramid_outputs", None)
    if not maps or len(preset.output.shape) != 4:
        raise UserError(f"{type(preset).__name__} of {weights} has no feature maps of known strides")
    ends = dict(maps) | {list(maps)[-1]: preset.output}
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(preset.output)
    return Body(keras.Model(preset.input, pooled), ends, [_normalization(preset, weights, mean, std)])


def load_preset(weights: str) -> keras.Model:
    """Load a backbone of keras-hub.

    Args:
        weights: A preset's handle or folder.

    Raises:
        UserError: It cannot be loaded.
    """
    from keras_hub.models import Backbone

    _check_weights(weights, Backbone.presets)
    try:
        return Backbone.from_preset(weights, dtype=keras.config.dtype_policy())
    except Exception as error:  # each hub raises its own errors without a connection
        if os.path.isdir(weights):
            raise UserError(f"{weights} is not a complete keras-hub preset: {_short(error)}") from None
        raise UserError(
            f"the preset {weights} cannot be downloaded ({_short(error)}); copy its folder (config.json, "
            "model.weights.h5, and image_converter.json if it has one) to this machine and set weights to its path"
        ) from None


def _check_weights(weights, known):
    if "://" in weights or os.path.isdir(weights) or weights in known:
        return
    raise UserError(
        f"{weights} is neither a folder nor a preset of keras-hub; copy the preset's folder (config.json, "
        "model.weights.h5) there, or use a handle such as resnet_50_imagenet"
    )


def _normalization(preset, weights, mean, std):
    if mean is None and std is None and getattr(preset, "activation", None) == "relu6":
        mean, std = _LITE["mean"], _LITE["std"]
    if mean is not None and std is not None:
        deviations = keras.tree.map_structure(lambda s: 1 / s, std)
        return _rescaling(deviations, keras.tree.map_structure(lambda m, s: -m * s, mean, deviations))
    return _rescaling(*_preset_normalization(weights))


def _rescaling(scale, offset):
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="normalization")


def _preset_normalization(weights):
    from keras_hub.layers import ImageConverter

    try:
        converter = ImageConverter.from_preset(weights)
    except Exception:  # see load_preset
        raise UserError(f"{weights} does not contain its normalization; set mean and std") from None
    return converter.scale or 1.0, converter.offset or 0.0


def _short(error):
    return textwrap.shorten(str(error) or type(error).__name__, 100, placeholder="...")
