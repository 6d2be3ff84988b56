"""Lesion masks as targets of a network's map, augmented like their images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from dr_tf.data.augmentation import Augmentation

Stream = Callable[[int, int], np.random.Generator | None]  # (position in the batch, eye number) -> generator


class MaskTargets:
    """The share of each place of a map that is lesion, for the examples with masks; zeros for the others.

    Args:
        masks: {row: lesion mask, bool [size, size]}.
        count: number of examples of the record set.
        side: side of the map.
        augmentation: augmentation of the training images.

    Attributes:
        shape: (count, side, side).
        dtype: float32.
        known: whether each example has a mask, bool [count].
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, masks: Mapping[int, np.ndarray], *, count: int, side: int, augmentation: Augmentation | None = None
    ) -> None:
        self._masks = {row: mask.astype(np.uint8) * 255 for row, mask in masks.items()}
        self._augmentation = augmentation
        self.shape = (count, side, side)
        self.known = np.isin(np.arange(count), list(masks))

    def of_batch(self, rows: Sequence[int] | np.ndarray, stream: Stream | None = None) -> np.ndarray:
        """Return the targets of these rows, float32 [n, side, side].

        Args:
            rows: row numbers.
            stream: returns a generator equal to the one that augments the image, None for an unchanged image.
        """
        targets = np.zeros((len(rows), *self.shape[1:]), np.float32)
        for i, row in enumerate(rows):
            if int(row) in self._masks:
                targets[i] = self._target(self._masks[int(row)], stream and stream(i, 0))
        return targets

    def _target(self, mask, rng):
        if rng is not None and self._augmentation:
            mask = self._augmentation.augment_mask(mask, rng)
        return cv2.resize(mask.astype(np.float32) / 255, self.shape[1:], interpolation=cv2.INTER_AREA)
