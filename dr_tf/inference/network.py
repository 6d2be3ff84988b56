"""A trained network as a function of photographs."""

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError

# Layers of an ensemble's network: what all its members' last layers read, and what they say, [n, members, outputs].
FEATURES, MEMBERS = "features", "members"


class Network:
    """uint8 photographs at the network's size -> (logits, features), float32; features are what the last layer reads."""

    def __init__(self, model):
        self.model = model
        features = features_of(model)
        both = keras.Model(model.input, [model.output, features])
        self._run = tf.function(lambda x: both(x, training=False), reduce_retracing=True)
        self._members = keras.Model(features, model.get_layer(MEMBERS).output) if is_ensemble(model) else None
        self.width = features.shape[-1]

    @classmethod
    def load(cls, path):
        try:
            return cls(keras.saving.load_model(path, compile=False, safe_mode=True))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} is no model that can be read: {str(error).splitlines()[0]}") from None

    @property
    def image_size(self):
        return image_size_of(self.model)

    def __call__(self, x):
        logits, features = self._run(x)
        return logits.numpy(), features.numpy()

    def over(self, batches):
        """(logits, features) of all batches of a dataset whose elements begin with x."""
        answers = [self(element[0]) for element in batches]
        return tuple(np.concatenate(parts) for parts in zip(*answers, strict=True))

    def members(self, features):
        """The logits of each network of an ensemble, [members, n, outputs]; None where there is but one."""
        return None if self._members is None else self._members(features).numpy().swapaxes(0, 1)


def image_size_of(model):
    """The side of the photographs that it takes, one eye or two."""
    return next(tensor.shape[1] for tensor in model.inputs if len(tensor.shape) == 4)


def is_ensemble(model):
    return any(layer.name == MEMBERS for layer in model.layers)


def members_of(model):
    """The networks of an ensemble, up to their last layers, or the one that there is."""
    return [layer for layer in model.layers if isinstance(layer, keras.Model)] if is_ensemble(model) else [model]


def features_of(model):
    return model.get_layer(FEATURES).output if is_ensemble(model) else model.get_layer("logits").input
