"""Batch normalization by TensorFlow's fused op.

Keras 3 composes it of moments, a multiplication and an addition. The fused op reads the feature map fewer times.
"""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops

from dr_tf.models.keras_private import layers_within


@keras.saving.register_keras_serializable(package="dr_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`BatchNormalization` that runs the fused op in training on channels-last maps, and Keras' own code otherwise.

    Variables, config and gradients are identical. `replace_layers.py` inserts and removes it.
    """

    @staticmethod
    def replaces(layer: keras.layers.Layer) -> bool:
        """Whether this class can replace the layer."""
        return type(layer) is keras.layers.BatchNormalization

    def call(
        self, inputs: keras.KerasTensor, training: bool | None = None, mask: keras.KerasTensor | None = None
    ) -> keras.KerasTensor:
        """Normalize `inputs`."""
        if not (training and self.trainable and self._can_fuse(inputs, mask)):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        output, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones(channels) if self.gamma is None else ops.cast(self.gamma, "float32"),
            offset=tf.zeros(channels) if self.beta is None else ops.cast(self.beta, "float32"),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        self._update_statistics(inputs, mean, variance)
        return output

    def _update_statistics(self, inputs, mean, variance):
        """The fused op divides the sum of squares by n - 1, Keras by n."""
        n = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        variance *= (n - 1) / n
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))

    def _can_fuse(self, inputs, mask):
        return (
            mask is None
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and not (self.synchronized or self.renorm)
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "float16", "bfloat16")
            and keras.backend.standardize_dtype(self.moving_mean.dtype) == "float32"
        )


def batch_norms(model: keras.Model) -> list[keras.layers.Layer]:
    """List the batch-norm layers of a network, also those inside layers and inner networks."""
    return [layer for layer in layers_within(model) if isinstance(layer, keras.layers.BatchNormalization)]
