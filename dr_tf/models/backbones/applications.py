"""The networks of keras.applications: their stages, and the normalization that each was trained with."""

import dataclasses
import functools
import os
import re

import keras

from dr_tf.console import UserError
from dr_tf.models.backbones.backbone import Body

# ImageNet's mean and standard deviation, RGB 0-255.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# What Caffe's networks were trained with: a mean and nothing else.
_CAFFE_MEAN = (123.68, 116.779, 103.939)


def _standardized(mean, std):
    return keras.layers.Normalization(mean=mean, variance=[s**2 for s in std], dtype="float32", name="normalization")


NORMALIZATIONS = {
    "inside": list,
    "caffe": lambda: [_standardized(_CAFFE_MEAN, (1, 1, 1))],
    "torch": lambda: [_standardized(_MEAN, _STD)],
    "one": lambda: [keras.layers.Rescaling(1 / 127.5, -1, dtype="float32", name="normalization")],
}


@dataclasses.dataclass(frozen=True)
class Application:
    """`starts`: the stages after the stem, each by how the name of its first layer begins."""

    constructor: str
    normalization: str
    starts: dict[str, str]
    bgr: bool = False  # the published weights expect the channels the other way round


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


def application(entry, *, image_size, weights=None):
    """`weights`: None, "imagenet", or the path of a file as Keras publishes them without the top (`*_notop.h5`)."""
    if weights not in (None, "imagenet") and not os.path.isfile(weights):
        raise UserError(f"no such weights file: {weights}")
    model = _built(entry, image_size, weights)
    if entry.bgr and weights is not None:
        _turn_channels(model)
    return Body(model, _ends(model, entry.starts), NORMALIZATIONS[entry.normalization]())


def _built(entry, image_size, weights):
    constructor = getattr(keras.applications, entry.constructor)
    shape = (image_size, image_size, 3)
    try:
        return constructor(include_top=False, pooling="avg", input_shape=shape, weights=weights)
    except Exception as error:  # keras.utils.get_file raises nothing finer
        failed = re.search(r"URL fetch failure on (\S+):", str(error))
        if failed is None:
            raise
        folder = os.path.join(os.environ.get("KERAS_HOME", os.path.join("~", ".keras")), "models")
        url = failed.group(1)
        raise UserError(
            f"the ImageNet weights of {entry.constructor} are not here and cannot be fetched; bring "
            f"{url.rpartition('/')[2]} from {url} to {folder}, or give its path as weights"
        ) from None


def _turn_channels(model):
    """Turns the first kernel round, so that the network takes RGB and no step of its graph has to swap channels."""
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    first.kernel.assign(first.kernel.numpy()[:, :, ::-1])


def _ends(model, starts):
    """The last tensor of each stage: what the first layer of the next takes."""
    first = [next(o for o in model.operations if re.match(start, o.name)) for start in starts.values()]
    # Not the first one: squeeze-and-excitation pools as well.
    pools = [o for o in model.operations if isinstance(o, keras.layers.GlobalAveragePooling2D)]
    inputs = [operation.input for operation in [*first, pools[-1]]]
    return dict(zip(["stem", *starts], inputs, strict=True))


BUILDERS = {name: functools.partial(application, entry) for name, entry in APPLICATIONS.items()}
