"""Backbone `resnet_v2`: a small pre-activation residual network (He et al., ECCV 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from dr_tf.console import UserError
from dr_tf.models.backbones.backbone import Body
from dr_tf.parameters import Count, Fraction


def resnet_v2(
    *,
    image_size: int,
    weights: None = None,
    stem: Count = 16,
    filters: Sequence[Count] = (16, 32, 64),
    blocks: Count = 1,
    momentum: Fraction = 0.99,
) -> Body:
    """Build the body: a 7x7 convolution and a max pool, both of stride 2, then stacks of residual blocks.

    By default it has 79,920 parameters, 512 of which are moving statistics.

    Args:
        image_size: Side of the images in pixels.
        weights: None: there are no pretrained weights.
        stem: Filters of the first convolution.
        filters: Filters of each stack. Each stack halves the sides of the feature map.
        blocks: Residual blocks per stack.
        momentum: Momentum of the moving statistics. With 0.99, short runs end before the initial values are forgotten.
    """
    if weights is not None:
        raise UserError(f"resnet_v2 has no pretrained weights; weights must be None, not {weights!r}")
    x = image = keras.Input((image_size, image_size, 3))
    x = _convolution(stem, 7, 2, "stem_conv")(x)
    x = layers.BatchNormalization(momentum=momentum, name="stem_bn")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    # The paper has ReLU before the pool. After it the result is the same, and it processes a quarter of the pixels.
    x = layers.ReLU(name="stem_relu")(x)
    ends = {"stem": x}
    for stack, width in enumerate(filters, 1):
        for block in range(1, blocks + 1):
            x = _block(x, width, stride=2 if block == 1 else 1, momentum=momentum, name=f"stack{stack}_block{block}")
        if stack == len(filters):
            x = layers.ReLU(name="relu")(x)
        ends[f"stack{stack}"] = x
    pooled = layers.GlobalAveragePooling2D(name="pool")(x)
    normalization = layers.Rescaling(1 / 127.5, -1, dtype="float32", name="normalization")
    return Body(keras.Model(image, pooled), ends, [normalization])


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


def _convolution(width, kernel_size, stride, name):
    return layers.Conv2D(
        width, kernel_size, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )
