"""Backbones from keras.applications, with their stages and the normalization that each was trained with."""

from __future__ import annotations

import dataclasses
import functools
import os
import re

import keras

from dr_tf.console import UserError
from dr_tf.models.backbones.backbone import Body

# ImageNet's mean and standard deviation, RGB 0-255.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# Caffe's networks were trained with a mean only.
_CAFFE_MEAN = (123.68, 116.779, 103.939)


def _standardize(mean, std):
    return keras.layers.Normalization(mean=mean, variance=[s**2 for s in std], dtype="float32", name="normalization")


NORMALIZATIONS = {
    "inside": list,  # the network normalizes by itself
    "caffe": lambda: [_standardize(_CAFFE_MEAN, (1, 1, 1))],
    "torch": lambda: [_standardize(_MEAN, _STD)],
    "one": lambda: [keras.layers.Rescaling(1 / 127.5, -1, dtype="float32", name="normalization")],
}


@dataclasses.dataclass(frozen=True)
class Application:
    """An entry of `APPLICATIONS`.

    Attributes:
        constructor: Name of the constructor in `keras.applications`.
        normalization: A name in `NORMALIZATIONS`.
        starts: {stage after the stem: regular expression for the start of its first layer's name}.
        bgr: Whether the published weights expect BGR images.
    """

    constructor: str
    normalization: str
    starts: dict[str, str]
    bgr: bool = False


_RESNET = {f"conv{i}": f"conv{i}_" for i in (2, 3, 4, 5)}
_DENSENET = {"conv2": "conv2_"} | {f"conv{i}": f"pool{i - 1}_" for i in (3, 4, 5)}
_EFFICIENTNET = {f"block{i}": f"block{i}" for i in range(1, 8)} | {"top": "top_"}
_EFFICIENTNET_V2 = {f"block{i}": f"block{i}" for i in range(1, 7)} | {"top": "top_"}
_MOBILENET = {f"block{i}": f"block_{i}_" for i in (1, 3, 6, 10, 13)} | {"top": "Conv_1"}
_CONVNEXT = {f"stage{i}": rf"\w+_downsampling_block_{i - 1}" for i in (1, 2, 3)}
_CONVNEXT = {"stage0": r"\w+_stage_0"} | _CONVNEXT

APPLICATIONS = {
    "resnet50": Application("ResNet50", "caffe", _RESNET, bgr=True),
    "resnet101": Application("ResNet101", "caffe", _RESNET, bgr=True),
    "resnet50_v2": Application("ResNet50V2", "one", _RESNET),
    "resnet101_v2": Application("ResNet101V2", "one", _RESNET),
    "densenet121": Application("DenseNet121", "torch", _DENSENET),
    "densenet169": Application("DenseNet169", "torch", _DENSENET),
    "mobilenet_v2": Application("MobileNetV2", "one", _MOBILENET),
    **{f"efficientnet_b{i}": Application(f"EfficientNetB{i}", "inside", _EFFICIENTNET) for i in range(8)},
    **{f"efficientnet_v2_b{i}": Application(f"EfficientNetV2B{i}", "inside", _EFFICIENTNET_V2) for i in range(4)},
    "efficientnet_v2_s": Application("EfficientNetV2S", "inside", _EFFICIENTNET_V2),
    **{
        f"convnext_{size.lower()}": Application(f"ConvNeXt{size}", "inside", _CONVNEXT)
        for size in ("Tiny", "Small", "Base")
    },
}


def application(entry: Application, *, image_size: int, weights: str | None = None) -> Body:
    """Build the body of a network of keras.applications.

    Args:
        entry: The network.
        image_size: Side of the images in pixels.
        weights: None, "imagenet", or the path of a weights file without the top, as Keras publishes them
            (`*_notop.h5`).

    Raises:
        UserError: The weights file does not exist, or the ImageNet weights cannot be downloaded.
    """
    if weights not in (None, "imagenet") and not os.path.isfile(weights):
        raise UserError(f"no such weights file: {weights}")
    model = _build(entry, image_size, weights)
    if entry.bgr and weights is not None:
        _reverse_input_channels(model)
    return Body(model, _stage_ends(model, entry.starts), NORMALIZATIONS[entry.normalization]())


def _build(entry, image_size, weights):
    constructor = getattr(keras.applications, entry.constructor)
    shape = (image_size, image_size, 3)
    try:
        return constructor(include_top=False, pooling="avg", input_shape=shape, weights=weights)
    except Exception as error:  # keras.utils.get_file raises nothing more specific
        failed = re.search(r"URL fetch failure on (\S+):", str(error))
        if failed is None:
            raise
        folder = os.path.join(os.environ.get("KERAS_HOME", os.path.join("~", ".keras")), "models")
        url = failed.group(1)
        raise UserError(
            f"the ImageNet weights of {entry.constructor} cannot be downloaded; copy "
            f"{url.rpartition('/')[2]} from {url} to {folder}, or set weights to its path"
        ) from None


def _reverse_input_channels(model):
    """Reverse the first kernel, so that the network takes RGB without a layer that swaps channels."""
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    first.kernel.assign(first.kernel.numpy()[:, :, ::-1])


def _stage_ends(model, starts):
    """The last tensor of each stage is the input of the next stage's first layer."""
    first_layers = [next(o for o in model.operations if re.match(start, o.name)) for start in starts.values()]
    # The last one: squeeze-and-excitation also pools.
    pools = [o for o in model.operations if isinstance(o, keras.layers.GlobalAveragePooling2D)]
    inputs = [operation.input for operation in [*first_layers, pools[-1]]]
    return dict(zip(["stem", *starts], inputs, strict=True))


BUILDERS = {name: functools.partial(application, entry) for name, entry in APPLICATIONS.items()}
