"""1x1 convolutions with a stride, by taking every n-th pixel first.

TensorFlow 2.21's gradient of a 1x1 convolution of stride 2 writes beyond its memory on a CPU with oneDNN (16 channels to
32 in a batch of 5 are enough; the process dies some steps later). The pixels between are not read anyway.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="dr_tf")
class SteppedConv2D(keras.layers.Conv2D):
    """The same numbers, variables and config. `exchange.py` puts it into networks and takes it out again."""

    @staticmethod
    def replaces(layer):
        if type(layer) is not keras.layers.Conv2D or layer.data_format != "channels_last":
            return False
        return layer.groups == 1 and layer.kernel_size == (1, 1) and layer.strides != (1, 1)

    def convolution_op(self, inputs, kernel):
        # The mean of one pixel. A slice with steps takes 3 times as long, and so does its gradient.
        stepped = ops.average_pool(inputs, 1, self.strides, "valid", self.data_format)
        return ops.conv(stepped, kernel, padding=self.padding, data_format=self.data_format)
