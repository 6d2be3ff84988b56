"""1x1 convolutions with a stride, by taking every n-th pixel first.

TensorFlow 2.21's gradient of a 1x1 convolution of stride 2 writes beyond its memory on a CPU with oneDNN (16 channels to
32 in a batch of 5 are enough; the process dies some steps later). The pixels between are not read anyway.
"""

import keras
from keras import ops


class SteppedConv2D(keras.layers.Conv2D):
    """The same numbers and variables. An instance is never made: `step_before_pointwise` turns layers into it."""

    def convolution_op(self, inputs, kernel):
        # The mean of one pixel. A slice with steps takes 3 times as long, and so does its gradient.
        stepped = ops.average_pool(inputs, 1, self.strides, "valid", self.data_format)
        return ops.conv(stepped, kernel, padding=self.padding, data_format=self.data_format)


# What Keras writes down of a layer's class; by these names it finds its own.
SteppedConv2D.__module__ = "keras.layers"
SteppedConv2D.__name__ = SteppedConv2D.__qualname__ = "Conv2D"


def step_before_pointwise(model):
    """Every 1x1 convolution with a stride of a built network, which is saved as before. To be called before `compile`."""
    for layer in model._flatten_layers():
        if type(layer) is keras.layers.Conv2D and _is_one(layer):
            layer.__class__ = SteppedConv2D
    return model


def _is_one(layer):
    last = layer.data_format == "channels_last"
    return last and layer.groups == 1 and layer.kernel_size == (1, 1) and layer.strides != (1, 1)
