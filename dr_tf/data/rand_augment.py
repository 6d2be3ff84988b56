"""RandAugment of keras_cv on single images, with all random numbers from a given NumPy generator."""

import dataclasses
import functools
import threading

import numpy as np

from dr_tf.console import UserError
from dr_tf.parameters import Count, Share


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """keras_cv's RandAugment (Cubuk et al., 2020).

    The layers of keras_cv keep random state of their own, which threads would use in any order. Here each draws from the
    generator of the image instead, one image at a time.

    Attributes:
        count: number of layers applied to an image.
        magnitude: mean strength, 0 to 1.
        magnitude_stddev: standard deviation of the strength.
        rate: probability that each of the layers is applied.
        geometric: whether geometric layers are among them. Without them only colours change: a `Warp` resamples an image
            once and leaves black outside, where keras_cv mirrors the rim of the retina.
    """

    count: Count = 2
    magnitude: Share = 0.3
    magnitude_stddev: Share = 0.15
    rate: Share = 10 / 11
    geometric: bool = False

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the augmented uint8 RGB image.

        Raises:
            UserError: keras_cv is not installed.
        """
        pipeline = _pipeline(self.magnitude, self.magnitude_stddev, self.geometric)
        chosen = [rng.integers(len(pipeline.layers)) for _ in range(self.count) if rng.random() < self.rate]
        return pipeline(image, chosen, rng)


@functools.cache
def _pipeline(*arguments):
    return _Pipeline(*arguments)


class _Pipeline:
    """keras_cv's layers, applied to one image at a time."""

    def __init__(self, magnitude, stddev, geometric):
        keras_cv = _keras_cv()
        self.layers = keras_cv.layers.RandAugment.get_standard_policy((0, 255), magnitude, stddev, geometric=geometric)
        self._generator, self._lock = _Generator(), threading.Lock()
        for layer in self.layers:
            layer.dtype_policy = "float32"  # whatever precision the model trains in
            layer._random_generator = self._generator
            samplers = {k: v for k, v in vars(layer).items() if isinstance(v, keras_cv.core.FactorSampler)}
            for name, sampler in samplers.items():
                setattr(layer, name, _FactorSampler(sampler, self._generator))

    def __call__(self, image, chosen, rng):
        with self._lock:
            self._generator.rng = rng
            for number in chosen:
                image = np.asarray(self.layers[number](image, training=True))
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)


class _Generator:
    """The part of tf.random.Generator that those layers use, on top of a NumPy generator."""

    rng: np.random.Generator

    def uniform(self, shape, minval=0, maxval=None, dtype="float32"):
        import tensorflow as tf

        dtype, high = tf.as_dtype(dtype), 1 if maxval is None else maxval
        shape = [int(n) for n in shape]
        values = self.rng.integers(minval, high, shape) if dtype.is_integer else self.rng.uniform(minval, high, shape)
        return tf.constant(values, dtype)

    def normal(self, shape, mean=0.0, stddev=1.0, dtype="float32"):
        import tensorflow as tf

        return tf.constant(self.rng.normal(mean, stddev, [int(n) for n in shape]), dtype)


class _FactorSampler:
    """A factor sampler of keras_cv that draws from `generator`."""

    def __init__(self, sampler, generator):
        self._config, self._generator = sampler.get_config(), generator

    def __call__(self, shape=(), dtype="float32"):
        import tensorflow as tf

        config = self._config
        if "mean" in config:
            drawn = self._generator.normal(shape, config["mean"], config["stddev"], dtype)
            return tf.clip_by_value(drawn, config["min_value"], config["max_value"])
        if "lower" in config:
            return self._generator.uniform(shape, config["lower"], config["upper"], dtype)
        return tf.fill([int(n) for n in shape], tf.constant(config["value"], dtype))


def _keras_cv():
    try:
        import keras_cv
    except ImportError as error:
        raise UserError(f"rand_augment needs keras_cv (pip install 'dr_tf[keras_cv]'): {error}") from None
    return keras_cv
