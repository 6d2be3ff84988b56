"""A small pre-activation residual network (He et al., ECCV 2016)."""

import keras
from keras import layers

from dr_tf.console import UserError
from dr_tf.models.backbones.backbone import Body


def resnet_v2(*, image_size, weights=None, stem=16, filters=(16, 32, 64), blocks=1, momentum=0.99):
    """7x7 convolution and max pool, both of stride 2, then a stack of `blocks` residual blocks for each of `filters`.

    `momentum` is that of the moving statistics: with few steps in a run 0.99 has not forgotten its first values by the end.
    Each stack halves the sides. As set, 79,920 parameters, 512 of them moving statistics; it has no pretrained weights.
    """
    if weights is not None:
        raise UserError(f"resnet_v2 has no pretrained weights; weights must be None, not {weights!r}")
    x = photograph = keras.Input((image_size, image_size, 3))
    x = _convolution(stem, 7, 2, "stem_conv")(x)
    x = layers.BatchNormalization(momentum=momentum, name="stem_bn")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    # Published before the pool, where it is the same: the largest of what is cut at 0 is the largest, cut at 0. Here it has
    # a quarter of the pixels.
    x = layers.ReLU(name="stem_relu")(x)
    ends = {"stem": x}
    for stack, width in enumerate(filters, 1):
        for block in range(1, blocks + 1):
            x = _block(x, width, stride=2 if block == 1 else 1, momentum=momentum, name=f"stack{stack}_block{block}")
        if stack == len(filters):
            x = layers.ReLU(name="relu")(x)
        ends[f"stack{stack}"] = x
    pooled = layers.GlobalAveragePooling2D(name="pool")(x)
    return Body(
        keras.Model(photograph, pooled), ends, [layers.Rescaling(1 / 127.5, -1, dtype="float32", name="normalization")]
    )


def _block(x, width, *, stride, momentum, name):
    skip = x
    if stride > 1 or x.shape[-1] != width:
        skip = layers.BatchNormalization(momentum=momentum, name=f"{name}_skip_bn")(x)
        skip = _convolution(width, 1, stride, f"{name}_skip_conv")(skip)
    x = _convolution(width, 3, stride, f"{name}_conv1")(_activated(x, momentum, f"{name}_pre"))
    x = _convolution(width, 3, 1, f"{name}_conv2")(_activated(x, momentum, f"{name}_mid"))
    return layers.Add(name=f"{name}_add")([x, skip])


def _activated(x, momentum, name):
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(momentum=momentum, name=f"{name}_bn")(x))


def _convolution(width, side, stride, name):
    return layers.Conv2D(width, side, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)
