"""Class-activation methods: Grad-CAM, Grad-CAM++ and HiResCAM.

Each takes the activations of a layer and the gradients of the target's evidence there, both [n, h, w, channels], and
returns a map float32 [n, h, w], before ReLU.
"""

from __future__ import annotations

import tensorflow as tf


def grad_cam(activations: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Weight each channel by its mean gradient (Selvaraju et al., ICCV 2017)."""
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * activations, axis=-1)


def grad_cam_plus_plus(activations: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Weight each channel by a weighted mean of its positive gradients (Chattopadhay et al., WACV 2018).

    The score of the paper is the exponential of the evidence. Its higher derivatives are then powers of the gradient,
    times a positive factor that has no effect on the shape of the map.
    """
    # The cube of a small gradient would underflow in float32, so gradients are divided by the largest. ReLU on the
    # sums: the # formula assumes activations that are not negative.
    largest = tf.reduce_max(tf.abs(gradients), axis=(1, 2, 3), keepdims=True)
    gradients = tf.math.divide_no_nan(gradients, largest)
    activation_sums = tf.nn.relu(tf.reduce_sum(activations, axis=(1, 2), keepdims=True))
    alphas = tf.math.divide_no_nan(gradients**2, 2 * gradients**2 + largest * activation_sums * gradients**3)
    weights = tf.reduce_sum(alphas * tf.nn.relu(gradients), axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * activations, axis=-1)


def hires_cam(activations: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Multiply activations and gradients pixel by pixel (Draelos and Carin, 2020).

    Such a map shows only locations that the evidence was computed from.
    """
    return tf.reduce_sum(gradients * activations, axis=-1)


METHODS = {"grad_cam": grad_cam, "grad_cam_plus_plus": grad_cam_plus_plus, "hires_cam": hires_cam}
# It scored best on the scorecard of validation images, with `activations.DEFAULT_LAYER`.
DEFAULT_METHOD = "grad_cam"
