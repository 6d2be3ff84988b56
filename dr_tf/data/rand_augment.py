"""Augmentation made elsewhere, by name: `apply(image, rng)` takes and gives uint8 RGB, and draws from `rng` alone."""

import dataclasses
import functools
import threading

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.ranges import check_probabilities


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """`keras_cv`'s RandAugment: `count` of its layers a photograph, each with probability `rate`.

    Without `geometric` it changes colours only: a `Warp` moves a photograph with a single resampling, and onto black
    where keras_cv mirrors the retina's rim. Its layers keep random state of their own, which threads would take from
    in any order; here each draws from the photograph's numbers instead, one photograph at a time.
    """

    count: int = 2
    magnitude: float = 0.3
    magnitude_stddev: float = 0.15
    rate: float = 10 / 11
    geometric: bool = False

    def __post_init__(self):
        check_probabilities(self, "magnitude", "magnitude_stddev", "rate")

    def apply(self, image, rng):
        pipeline = _pipeline(self.magnitude, self.magnitude_stddev, self.geometric)
        chosen = [rng.integers(len(pipeline.layers)) for _ in range(self.count) if rng.random() < self.rate]
        return pipeline(image, chosen, rng)


POLICIES = {"rand_augment": RandAugment}


@functools.cache
def _pipeline(*arguments):
    return _Pipeline(*arguments)


class _Pipeline:
    def __init__(self, magnitude, stddev, geometric):
        keras_cv = _keras_cv()
        self.layers = keras_cv.layers.RandAugment.get_standard_policy((0, 255), magnitude, stddev, geometric=geometric)
        self._numbers, self._turn = _Numbers(), threading.Lock()
        for layer in self.layers:
            layer.dtype_policy = "float32"  # whatever precision the model trains in
            layer._random_generator = self._numbers
            samplers = {k: v for k, v in vars(layer).items() if isinstance(v, keras_cv.core.FactorSampler)}
            for name, sampler in samplers.items():
                setattr(layer, name, _Sampler(sampler, self._numbers))

    def __call__(self, image, chosen, rng):
        with self._turn:
            self._numbers.rng = rng
            for number in chosen:
                image = np.asarray(self.layers[number](image, training=True))
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)


class _Numbers:
    """A `tf.random.Generator`, as far as those layers use one, over a numpy generator."""

    rng = None

    def uniform(self, shape, minval=0, maxval=None, dtype="float32"):
        import tensorflow as tf

        dtype, high = tf.as_dtype(dtype), 1 if maxval is None else maxval
        shape = [int(n) for n in shape]
        values = self.rng.integers(minval, high, shape) if dtype.is_integer else self.rng.uniform(minval, high, shape)
        return tf.constant(values, dtype)

    def normal(self, shape, mean=0.0, stddev=1.0, dtype="float32"):
        import tensorflow as tf

        return tf.constant(self.rng.normal(mean, stddev, [int(n) for n in shape]), dtype)


class _Sampler:
    """A factor sampler of keras_cv whose draws come from `numbers`."""

    def __init__(self, sampler, numbers):
        self._of, self._numbers = sampler.get_config(), numbers

    def __call__(self, shape=(), dtype="float32"):
        import tensorflow as tf

        of = self._of
        if "mean" in of:
            drawn = self._numbers.normal(shape, of["mean"], of["stddev"], dtype)
            return tf.clip_by_value(drawn, of["min_value"], of["max_value"])
        if "lower" in of:
            return self._numbers.uniform(shape, of["lower"], of["upper"], dtype)
        return tf.fill([int(n) for n in shape], tf.constant(of["value"], dtype))


def _keras_cv():
    try:
        import keras_cv
    except ImportError as error:
        raise UserError(f"rand_augment needs keras_cv (pip install 'dr_tf[keras_cv]'): {error}") from None
    return keras_cv
