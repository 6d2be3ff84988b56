"""Any keras-hub preset that has feature maps, by its handle or from a local folder."""

import os
import textwrap

import keras

from dr_tf.console import UserError
from dr_tf.models.backbones.backbone import Body

# EfficientNet-Lite's presets say nothing of their normalization (Liu, "Higher accuracy on vision models with
# EfficientNet-Lite", 2020); its sixth relu tells it from every other EfficientNet, whatever its folder is called.
_LITE = {"mean": 127.0, "std": 128.0}


def keras_hub(*, image_size, weights=None, mean=None, std=None):
    """`weights`: a handle such as "resnet_50_imagenet", "hf://...", "kaggle://...", or a preset's folder.

    RGB 0-255 becomes (x - mean) / std, each a number or one per channel; None takes what the preset says of itself.
    """
    if weights is None:
        raise UserError("backbone keras_hub needs weights: a preset's handle, or the folder of one")
    preset = _loaded(weights)
    maps = getattr(preset, "pyramid_outputs", None)
    if not maps or len(preset.output.shape) != 4:
        raise UserError(f"{type(preset).__name__} of {weights} has no feature maps by stride")
    ends = dict(maps) | {list(maps)[-1]: preset.output}
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(preset.output)
    return Body(keras.Model(preset.input, pooled), ends, [_normalization(preset, weights, mean, std)])


def _loaded(weights):
    from keras_hub.models import Backbone

    _check_place(weights, Backbone.presets)
    try:
        return Backbone.from_preset(weights, dtype=keras.config.dtype_policy())
    except Exception as error:  # every hub has errors of its own for a missing connection
        if os.path.isdir(weights):
            raise UserError(f"{weights} is not a whole keras-hub preset: {_short(error)}") from None
        raise UserError(
            f"the preset {weights} is not here and cannot be fetched ({_short(error)}); bring its folder (config.json, "
            "model.weights.h5, and image_converter.json where it has one) and give the folder's path as weights"
        ) from None


def _check_place(weights, known):
    if "://" in weights or os.path.isdir(weights) or weights in known:
        return
    raise UserError(
        f"{weights} is neither a folder nor a preset of keras-hub; bring the preset's folder (config.json, "
        "model.weights.h5) there, or name a handle such as resnet_50_imagenet"
    )


def _normalization(preset, weights, mean, std):
    """A Rescaling layer: x * scale + offset, each a number or one per channel."""
    if mean is None and std is None and getattr(preset, "activation", None) == "relu6":
        mean, std = _LITE["mean"], _LITE["std"]
    if mean is not None and std is not None:
        deviations = keras.tree.map_structure(lambda s: 1 / s, std)
        return _rescaling(deviations, keras.tree.map_structure(lambda m, s: -m * s, mean, deviations))
    return _rescaling(*_own_normalization(weights))


def _rescaling(scale, offset):
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="normalization")


def _own_normalization(weights):
    from keras_hub.layers import ImageConverter

    try:
        converter = ImageConverter.from_preset(weights)
    except Exception:  # as above
        raise UserError(f"{weights} does not say how its photographs were normalized; give mean and std") from None
    return converter.scale or 1.0, converter.offset or 0.0


def _short(error):
    return textwrap.shorten(str(error) or type(error).__name__, 100, placeholder="...")
