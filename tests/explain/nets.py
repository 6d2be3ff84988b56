"""Networks so small that their class-activation maps can be computed by hand."""

import keras
import numpy as np
from keras import layers

# The activations [2, 2, channels] of an image of 2 x 2 pixels, and their weights in the logit.
MAP = np.array([[[1, 0], [2, 1]], [[0, 3], [4, 2]]], np.float32)
WEIGHTS = np.array([[[1, -1], [2, 0]], [[0, 1], [-1, 1]]], np.float32)


OUTPUT = "it"


def images(maps=MAP):
    """Images [n, 2, 2, 3] with these activations: red is the first channel, green the second."""
    maps = np.reshape(maps, (-1, 2, 2, 2))
    return np.concatenate([maps, np.full_like(maps[..., :1], 9)], axis=-1)


def red_and_green(name="conv"):
    conv = layers.Conv2D(2, 1, use_bias=False, name=name)
    conv.build((None, 2, 2, 3))
    conv.set_weights([np.eye(3, 2, dtype=np.float32)[None, None]])
    return conv


def with_output(inputs, x, weights):
    """Add the output "it" to features x: their sum weighted by `weights` [features]."""
    x = layers.Identity(name="features")(x)
    model = keras.Model(inputs, {OUTPUT: layers.Dense(1, use_bias=False, dtype="float32", name=OUTPUT)(x)})
    model.get_layer(OUTPUT).set_weights([np.reshape(weights, (-1, 1)).astype(np.float32)])
    return model


def linear(weights=WEIGHTS):
    """logit = sum of weights * activations."""
    image = keras.Input((2, 2, 3))
    x = layers.Flatten(name="flat")(red_and_green()(image))
    return with_output(image, x, weights)


def eyes(order=("left", "right")):
    """One shared network that is called for the eyes in `order`; the right eye has three times the weight."""
    inputs = {eye: keras.Input((2, 2, 3), name=eye) for eye in ("left", "right")}
    image = keras.Input((2, 2, 3))
    shared = keras.Model(image, layers.Flatten()(red_and_green()(image)), name="shared")
    features = {eye: shared(inputs[eye]) for eye in order}
    x = layers.Concatenate(name="both")([features["left"], features["right"]])
    return with_output(inputs, x, np.concatenate([WEIGHTS.ravel(), 3 * WEIGHTS.ravel()]))


def transformer():
    """Only the class token (zeros) is used; it attends equally to itself and four patches: logit = (red - green) / 5."""
    image = keras.Input((2, 2, 3))
    tokens = layers.ZeroPadding1D((1, 0))(layers.Reshape((4, 2))(red_and_green("patches")(image)))
    attention = layers.MultiHeadAttention(1, 2, use_bias=False, name="attention")
    x = layers.Cropping1D((0, 4))(attention(tokens, tokens))
    model = with_output(image, layers.Flatten()(x), [1, -1])
    same = np.eye(2, dtype=np.float32)
    attention.set_weights([0 * same[:, None], 0 * same[:, None], same[:, None], same[None]])
    return model
