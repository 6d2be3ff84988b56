"""Photographs as a model takes them: decoded, at its size, and decoded once where a cache holds them."""

from absl import logging

from dr_tf.data.cache import make_cache
from dr_tf.fundus.prepare import resized


class Photographs:
    """What `training_batches` and `ordered_batches` read: `read(row, eye)` is uint8 [image_size, image_size, 3].

    `cache` is "auto" (memory, if half of what is free is enough), "memory", "disk" (in `cache_dir`) or "none".
    """

    def __init__(self, records, *, image_size=None, cache="auto", cache_dir=None):
        self.records = records
        self.image_size = image_size or records.image_size
        self.eyes = records.eyes
        if self.image_size > records.image_size:
            logging.warning(
                "The photographs of %s are enlarged from %d to %d pixels: records of that size would show more",
                records.name,
                records.image_size,
                self.image_size,
            )
        self._cache = make_cache(
            cache,
            len(records) * len(self.eyes),
            (self.image_size, self.image_size, 3),
            directory=cache_dir,
            key=(records.fingerprint, self.eyes, self.image_size),
        )

    def present(self, eye=None):
        return self.records.present(eye)

    def read(self, row, eye=None):
        """Not to be written to: it may be the cache's own memory."""
        place = row * len(self.eyes) + self.eyes.index(eye)
        pixels = self._cache.get(place)
        if pixels is None:
            pixels = self._cache.put(place, resized(self.records.photograph(row, eye), self.image_size))
        return pixels
