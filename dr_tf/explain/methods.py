"""From a map's activations and the gradients there to one number a place: float32 [n, h, w], not yet cut at zero.

Each takes `activations` and `gradients` [n, h, w, channels], the latter of a target's evidence.
"""

import tensorflow as tf


def grad_cam(activations, gradients):
    """A channel weighs what its gradient is on average (Selvaraju et al., ICCV 2017)."""
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * activations, axis=-1)


def grad_cam_plus_plus(activations, gradients):
    """A channel weighs its positive gradients, each by its share in the evidence (Chattopadhay et al., WACV 2018).

    The paper takes the exponential of the evidence for the score: its derivatives are then powers of the gradient times
    one positive number, which leaves the map.
    """
    # The cube of a small gradient would vanish in float32; and the paper's activations are above zero.
    largest = tf.reduce_max(tf.abs(gradients), axis=(1, 2, 3), keepdims=True)
    gradients = tf.math.divide_no_nan(gradients, largest)
    activity = tf.nn.relu(tf.reduce_sum(activations, axis=(1, 2), keepdims=True))
    shares = tf.math.divide_no_nan(gradients**2, 2 * gradients**2 + largest * activity * gradients**3)
    weights = tf.reduce_sum(shares * tf.nn.relu(gradients), axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * activations, axis=-1)


def hires_cam(activations, gradients):
    """Each place by its own gradient (Draelos and Carin, 2020): shows only what the evidence was computed from."""
    return tf.reduce_sum(gradients * activations, axis=-1)


METHODS = {"grad_cam": grad_cam, "grad_cam_plus_plus": grad_cam_plus_plus, "hires_cam": hires_cam}
# The best of the scorecard on validation photographs, together with the layer that is read where none is named.
DEFAULT_METHOD = "grad_cam"
