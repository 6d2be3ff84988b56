"""CBAM, the attention over channels and places of Woo et al. (ECCV 2018), of plain Keras layers.

The functions add layers to a graph of Keras tensors, so that a saved network opens without this project.
"""

from __future__ import annotations

import keras
from keras import layers, ops


def cbam(x: keras.KerasTensor, name: str, *, reduction: int = 16, kernel_size: int = 7) -> keras.KerasTensor:
    """Weight the channels of a feature map, then its places. Arguments as those of the two functions below."""
    x = channel_attention(x, f"{name}_channels", reduction=reduction)
    return spatial_attention(x, f"{name}_places", kernel_size=kernel_size)


def channel_attention(x: keras.KerasTensor, name: str, *, reduction: int = 16) -> keras.KerasTensor:
    """Multiply each channel by a weight between 0 and 1.

    weights = sigmoid(mlp(mean over places) + mlp(maximum over places))

    Args:
        x: A feature map [n, h, w, channels].
        name: Prefix of the layers' names. The weights are the output of the layer NAME_weights.
        reduction: The shared mlp has one hidden layer of channels / reduction units, and of one unit at least.
    """
    channels = x.shape[-1]
    hidden = layers.Dense(max(1, channels // reduction), activation="relu", name=f"{name}_hidden")
    out = layers.Dense(channels, name=f"{name}_out")
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    maximum = layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_max")(x)
    total = layers.Add(name=f"{name}_sum")([out(hidden(mean)), out(hidden(maximum))])
    weights = layers.Activation("sigmoid", name=f"{name}_weights")(total)
    return layers.Multiply(name=f"{name}_multiply")([x, weights])


def spatial_attention(x: keras.KerasTensor, name: str, *, kernel_size: int = 7) -> keras.KerasTensor:
    """Multiply each place by a weight between 0 and 1.

    weights = sigmoid(convolution of [mean over channels, maximum over channels])

    Args:
        x: A feature map [n, h, w, channels].
        name: Prefix of the layers' names. The weights are the output of the layer NAME_weights.
        kernel_size: Size of the convolution.
    """
    pooled = [pool(x, axis=-1, keepdims=True) for pool in (ops.mean, ops.max)]
    pooled = layers.Concatenate(name=f"{name}_pooled")(pooled)
    weights = layers.Conv2D(
        1, kernel_size, padding="same", use_bias=False, activation="sigmoid", name=f"{name}_weights"
    )(pooled)
    return layers.Multiply(name=f"{name}_multiply")([x, weights])
