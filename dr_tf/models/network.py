"""A Keras model as a network: photographs -> ({output: logits}, features)."""

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.models.classifier import FEATURES

# Layer of an ensemble's model: what each member says of an output, [n, members, logits].
MEMBERS = "members_"


class KerasNetwork:
    """Implements `dr_tf.inference.network.Network`.

    Called on uint8 photographs at the network's size, [n, side, side, 3] or a dict of left, right, left_present and
    right_present, it returns ({output: logits}, features) as float32.
    """

    def __init__(self, model):
        self.model = model
        self.outputs = outputs_of(model)
        features = features_of(model)
        both = keras.Model(model.input, [model.output, features])
        self._run = tf.function(lambda x: both(x, training=False), reduce_retracing=True)
        members = (
            {name: model.get_layer(MEMBERS + name).output for name in self.outputs} if is_ensemble(model) else None
        )
        self._members = members and keras.Model(features, members)
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

    @property
    def paired(self):
        return is_paired(self.model)

    @property
    def description(self):
        return f"{self.model.name}, {self.model.count_params():,} weights"

    def __call__(self, images):
        outputs, features = self._run(images)
        return {name: logits.numpy() for name, logits in outputs.items()}, features.numpy()

    def members(self, features):
        """{output: logits of each network of an ensemble, [members, n, logits]}; None where there is but one."""
        if self._members is None:
            return None
        return {name: logits.numpy().swapaxes(0, 1) for name, logits in self._members(features).items()}


def outputs_of(model):
    """The names of a model's outputs."""
    if not isinstance(model.output, dict):
        raise UserError(f"the model {model.name} has no named outputs: it was not made by this version of dr_tf")
    return tuple(model.output)


def features_of(model):
    """What every output layer reads."""
    try:
        return model.get_layer(FEATURES).output
    except ValueError:
        raise UserError(f"the model {model.name} has no layer {FEATURES!r}: it was not made by dr_tf") from None


def image_size_of(model):
    """The side of the photographs that it takes, one eye or two."""
    return next(tensor.shape[1] for tensor in model.inputs if len(tensor.shape) == 4)


def is_paired(model):
    return isinstance(model.input, dict)


def is_ensemble(model):
    return any(layer.name.startswith(MEMBERS) for layer in model.layers)


def members_of(model):
    """The networks of an ensemble, up to their last layers, or the one that there is."""
    return [layer for layer in model.layers if isinstance(layer, keras.Model)] if is_ensemble(model) else [model]


def over(network, batches):
    """({output: logits}, features) of all batches of a dataset whose elements begin with the images; at least one."""
    answers = [network(element[0]) for element in batches]
    outputs, features = zip(*answers, strict=True)
    return {name: np.concatenate([one[name] for one in outputs]) for name in outputs[0]}, np.concatenate(features)
