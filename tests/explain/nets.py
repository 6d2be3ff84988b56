"""Networks so small that their maps are known."""

import keras
import numpy as np
from keras import layers

# What one photograph of 2 x 2 gives as the map of two channels, and the weight of each of its places in the logit.
MAP = np.array([[[1, 0], [2, 1]], [[0, 3], [4, 2]]], np.float32)
WEIGHTS = np.array([[[1, -1], [2, 0]], [[0, 1], [-1, 1]]], np.float32)


OUTPUT = "it"


def photographs(maps=MAP):
    """[n, 2, 2, 3]: red is the first channel, green the second."""
    maps = np.reshape(maps, (-1, 2, 2, 2))
    return np.concatenate([maps, np.full_like(maps[..., :1], 9)], axis=-1)


def red_and_green(name="conv"):
    conv = layers.Conv2D(2, 1, use_bias=False, name=name)
    conv.build((None, 2, 2, 3))
    conv.set_weights([np.eye(3, 2, dtype=np.float32)[None, None]])
    return conv


def answering(inputs, x, weights):
    """A network whose one output, "it", is `weights` [features] times what comes out of x."""
    x = layers.Identity(name="features")(x)
    model = keras.Model(inputs, {OUTPUT: layers.Dense(1, use_bias=False, dtype="float32", name=OUTPUT)(x)})
    model.get_layer(OUTPUT).set_weights([np.reshape(weights, (-1, 1)).astype(np.float32)])
    return model


def linear(weights=WEIGHTS):
    """logit = sum of weights * map."""
    photograph = keras.Input((2, 2, 3))
    x = layers.Flatten(name="flat")(red_and_green()(photograph))
    return answering(photograph, x, weights)


def eyes(order=("left", "right")):
    """One shared network that looks at the eyes in `order`; the right one counts three times."""
    inputs = {eye: keras.Input((2, 2, 3), name=eye) for eye in ("left", "right")}
    photograph = keras.Input((2, 2, 3))
    shared = keras.Model(photograph, layers.Flatten()(red_and_green()(photograph)), name="shared")
    features = {eye: shared(inputs[eye]) for eye in order}
    x = layers.Concatenate(name="both")([features["left"], features["right"]])
    return answering(inputs, x, np.concatenate([WEIGHTS.ravel(), 3 * WEIGHTS.ravel()]))


def transformer():
    """A class token (of zeros) attends to four patches and itself alike, and alone is read: logit = red - green, / 5."""
    photograph = keras.Input((2, 2, 3))
    tokens = layers.ZeroPadding1D((1, 0))(layers.Reshape((4, 2))(red_and_green("patches")(photograph)))
    attention = layers.MultiHeadAttention(1, 2, use_bias=False, name="attention")
    x = layers.Cropping1D((0, 4))(attention(tokens, tokens))
    model = answering(photograph, layers.Flatten()(x), [1, -1])
    same = np.eye(2, dtype=np.float32)
    attention.set_weights([0 * same[:, None], 0 * same[:, None], same[:, None], same[None]])
    return model
