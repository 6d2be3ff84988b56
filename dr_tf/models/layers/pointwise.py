"""Strided 1x1 convolutions that subsample the pixels first, to avoid a bug of TensorFlow.

In TensorFlow 2.21 on a CPU with oneDNN, the gradient of a 1x1 convolution of stride 2 writes outside its memory (16 to
32 channels and a batch of 5 suffice; the process crashes some steps later). The skipped pixels have no effect anyway.
"""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="dr_tf")
class SteppedConv2D(keras.layers.Conv2D):
    """`Conv2D` with identical outputs, variables and config. `replace_layers.py` inserts and removes it."""

    @staticmethod
    def replaces(layer: keras.layers.Layer) -> bool:
        """Whether this class can replace the layer: a strided 1x1 convolution of Keras."""
        if type(layer) is not keras.layers.Conv2D or layer.data_format != "channels_last":
            return False
        return layer.groups == 1 and layer.kernel_size == (1, 1) and layer.strides != (1, 1)

    def convolution_op(self, inputs: keras.KerasTensor, kernel: keras.KerasTensor) -> keras.KerasTensor:
        """Subsample, then convolve without stride."""
        # Average pooling over one pixel. A strided slice, and its gradient, take 3 times as long.
        subsampled = ops.average_pool(inputs, 1, self.strides, "valid", self.data_format)
        return ops.conv(subsampled, kernel, padding=self.padding, data_format=self.data_format)
