"""Images of a record set, decoded and resize_square to a model's input size, with an optional cache of the pixels."""

from collections.abc import Collection

import numpy as np
from absl import logging

from dr_tf.data.cache import make_cache
from dr_tf.data.records import Records
from dr_tf.fundus.prepare import resize_square


class ImageLoader:
    """Reads the images of a record set at a model's input size.

    Args:
        records: the record set.
        image_size: side of the images in pixels; that of the records by default.
        cache: "auto" (memory if the pixels take at most half of what is free, else none), "memory", "disk" or "none".
        cache_dir: folder of the "disk" cache.
        inputs: names of the model's inputs, if it takes a dict; by default all that `patient` can have.

    Attributes:
        patient: of pairs {name: value of each row} beside the images, as `Records.patient_values` returns them; empty for
            single images.
    """

    def __init__(
        self,
        records: Records,
        *,
        image_size: int | None = None,
        cache: str = "auto",
        cache_dir: str | None = None,
        inputs: Collection[str] | None = None,
    ) -> None:
        self.records = records
        values = records.patient_values() if records.paired else {}
        self.patient = {name: value for name, value in values.items() if inputs is None or name in inputs}
        self.image_size = image_size or records.image_size
        self.eyes = records.eyes
        if self.image_size > records.image_size:
            logging.warning(
                "The images of %s are enlarged from %d to %d pixels: build the records at --image_size %d for more detail",
                records.name,
                records.image_size,
                self.image_size,
                self.image_size,
            )
        self._cache = make_cache(
            cache,
            len(records) * len(self.eyes),
            (self.image_size, self.image_size, 3),
            directory=cache_dir,
            key=(records.fingerprint, self.eyes, self.image_size),
        )

    def present(self, eye: str | None = None) -> np.ndarray:
        """Return for each row whether there is an image of this eye, bool [n]."""
        return self.records.present(eye)

    def read(self, row: int, eye: str | None = None) -> np.ndarray:
        """Return an image, uint8 RGB [image_size, image_size, 3]. It may be the cache's memory: do not write to it."""
        place = row * len(self.eyes) + self.eyes.index(eye)
        pixels = self._cache.get(place)
        if pixels is None:
            pixels = self._cache.put(place, resize_square(self.records.image(row, eye), self.image_size))
        return pixels
