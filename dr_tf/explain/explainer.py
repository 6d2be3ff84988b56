"""The Explainer: logits, evidence and class activation maps of photographs, by one forward and one backward pass."""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.activations import find, grid, tapped
from dr_tf.explain.methods import DEFAULT_METHOD, METHODS
from dr_tf.models.keras_private import layers_within
from dr_tf.models.layers.replace_layers import with_safe_gradients
from dr_tf.models.network import features_of, image_size_of, is_paired, members_of, outputs_of

POSITIVE = "positive"
_LEAST = 1e-12  # of a probability: however sure the network is of the contrary a map keeps its shape
_HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Of n examples. `maps` [n, h, w] are what speaks *for* the target, from 0 up; what speaks against it is not drawn.

    A map divides the network's own probability of the target among the places: the mean over them is that probability.
    So maps compare between photographs, whatever the method and the layer: 10 is ten times as much as there would be
    everywhere if the network were certain and looked nowhere in particular. Of paired eyes `maps` holds one such array
    for each, and their means add up to the probability. Where nothing at that layer speaks for the target a map is 0
    everywhere. Of an ensemble, what is divided by is the mean of its networks' maps.
    """

    outputs: dict[str, np.ndarray]  # logits
    features: np.ndarray  # what the last layer reads
    evidence: dict[str, np.ndarray]  # of every target, [n]
    probabilities: dict[str, np.ndarray]  # the same as the network's own probabilities, before they are calibrated
    maps: np.ndarray | dict[str, np.ndarray]


class Explainer:
    """`explainer(photographs, target)` -> Explanation. `layer`: as `taps.find` has it; `output`: the one that `head` reads.

    Targets are those of `head.evidence`: "positive", "grade >= k", a class by its name or number; one for all examples,
    or one for each. Which are asked for is data, so that all of them share one trace.
    """

    def __init__(self, model, head, *, output=None, method=DEFAULT_METHOD, layer=None):
        if method not in METHODS:
            raise UserError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
        given, model = model, with_safe_gradients(_in_float32(model))
        self.model, self.exact = model, model is given  # exact: its answers are the given one's to the last digit
        self.head, self.method, self._layer = head, method, layer
        self.output = output or outputs_of(model)[0]
        self._places = [find(member, layer) for member in members_of(model)]
        self.targets = tuple(head.evidence(keras.ops.zeros((1, head.outputs))))
        self._network = keras.Model(model.input, [model.output, features_of(model)])
        self._run = tf.function(self._explain, autograph=False)
        self._look = tf.function(
            lambda x: self._evidence(self._network(x, training=False)[0][self.output]), autograph=False
        )

    def __call__(self, photographs, target=POSITIVE):
        x = tf.nest.map_structure(tf.convert_to_tensor, photographs)
        n = tf.nest.flatten(x)[0].shape[0]
        wanted = [target] * n if isinstance(target, (str, int)) else target
        given = x, tf.constant([self.number(one) for one in wanted], tf.int32)
        answers = self._run.get_concrete_function(*tf.nest.map_structure(_of_any_number, given))(*given)
        outputs, features, evidence, p, maps = tf.nest.map_structure(lambda tensor: tensor.numpy(), answers)
        return Explanation(outputs, features, self._named(evidence), self._named(p), maps)

    @property
    def place(self):
        """Where maps are read: of an ensemble, in its first network."""
        return self._places[0]

    @property
    def image_size(self):
        return image_size_of(self.model)

    @property
    def width(self):
        """How many features there are."""
        return self._network.output[1].shape[-1]

    @property
    def paired(self):
        """Whether it takes both eyes of a patient at once."""
        return is_paired(self.model)

    def of(self, model):
        """The same of another network of the same layers."""
        return Explainer(model, self.head, output=self.output, method=self.method, layer=self._layer)

    def evidence(self, photographs, target=POSITIVE):
        """[n], without maps."""
        return self._look(tf.nest.map_structure(tf.convert_to_tensor, photographs)).numpy()[:, self.number(target)]

    def number(self, target):
        """Where a target stands among `targets`, which begin with the classes."""
        known = {str(i): i for i in range(len(self.head.classes))}
        known |= {name.replace(" ", ""): i for i, name in enumerate(self.targets)}
        plain = str(target).replace(" ", "")
        if plain not in known:
            numbers = f"0 to {len(self.head.classes) - 1}"
            raise UserError(
                f"no target is called {target!r}; there are {', '.join(self.targets)}, or a class's number {numbers}"
            )
        return known[plain]

    def _explain(self, x, wanted):
        eyes = _photographs_of(x) if isinstance(x, dict) else {}
        tape = tf.GradientTape(persistent=bool(eyes), watch_accessed_variables=False)
        network, seen = tapped(self._network, self._places, tape)
        with tape:
            tape.watch(eyes)
            outputs, features = network(x | eyes if eyes else x, training=False)
            evidence = self._evidence(outputs[self.output])
            # Photographs do not see each other, so the gradient of the sum holds each one's own.
            asked = tf.reduce_sum(tf.gather(evidence, wanted, batch_dims=1))
        parts = zip(self._places, seen, tape.gradient(asked, seen), strict=True)
        owners = [_owners(tape, activations, eyes) if eyes else [None] for activations in seen]
        found = [dict(zip(of, self._maps(*part), strict=True)) for of, part in zip(owners, parts, strict=True)]
        p = self._probabilities(evidence)
        amounts = tf.maximum(tf.gather(p, wanted, batch_dims=1), _LEAST)
        maps = _divided({eye: _mean([of[eye] for of in found]) for eye in found[0]}, amounts)
        return outputs, features, evidence, p, maps if eyes else maps[None]

    def _evidence(self, logits):
        return tf.stack(list(self.head.evidence(logits).values()), axis=1)

    def _probabilities(self, evidence):
        """Evidence is log-odds, but for classes of which one alone is true: theirs is theirs beside the others'."""
        n = len(self.head.classes)
        if not self.head.exclusive or n == 2:
            return tf.sigmoid(evidence)
        return tf.concat([tf.nn.softmax(evidence[:, :n]), tf.sigmoid(evidence[:, n:])], axis=1)

    def _named(self, values):
        return dict(zip(self.targets, values.T, strict=True))

    def _maps(self, place, activations, gradients):
        name = place.name
        if not gradients or any(gradient is None for gradient in gradients):
            raise UserError(f"the answer does not depend on {name}")
        pairs = zip(activations, gradients, strict=True)
        return [tf.nn.relu(METHODS[self.method](grid(a, name), grid(g, name))) for a, g in pairs]


def _of_any_number(tensor):
    """So that a last batch that is smaller is not traced anew."""
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def _photographs_of(x):
    return {name: tf.cast(value, tf.float32) for name, value in x.items() if len(value.shape) == 4}


def _owners(tape, seen, eyes):
    """The eye that each map is of: the only one that it depends on, in whatever order the network looks at them."""
    owners = []
    for tensor in seen:
        gradients = tape.gradient(tensor, eyes)
        owners.append([eye for eye, gradient in gradients.items() if gradient is not None])
    if sorted(owners) != sorted([eye] for eye in eyes):
        raise UserError("that layer gives no map for each eye; name one that comes before the eyes are put together")
    return [owner for (owner,) in owners]


def _mean(maps):
    """Over the networks of an ensemble, at the finest map's size."""
    if len(maps) == 1:
        return maps[0]
    size = max((tuple(m.shape[1:]) for m in maps), key=math.prod)
    return tf.reduce_mean([tf.image.resize(m[..., None], size)[..., 0] for m in maps], axis=0)


def _divided(maps, amounts):
    """{eye: maps}, so that the means of an example's maps add up to its amount."""
    means = tf.add_n([tf.reduce_mean(m, axis=(1, 2)) for m in maps.values()])
    return {eye: m * tf.math.divide_no_nan(amounts, means)[:, None, None] for eye, m in maps.items()}


def _in_float32(model):
    """The network, or a copy of it where parts of it compute in half precision: gradients would vanish or overflow there."""
    if not any(layer.compute_dtype in _HALF for layer in layers_within(model)):
        return model
    described = _without_half(keras.saving.serialize_keras_object(model))
    copy = keras.saving.deserialize_keras_object(described)
    copy.set_weights(model.get_weights())
    return copy


def _without_half(described):
    if isinstance(described, dict):
        return {key: _without_half(value) for key, value in described.items()}
    if isinstance(described, (list, tuple)):
        return type(described)(_without_half(value) for value in described)
    return "float32" if isinstance(described, str) and described in _HALF else described
