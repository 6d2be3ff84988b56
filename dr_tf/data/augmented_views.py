"""A fixed number of augmented views per image, the same in every epoch, so that their features can be stored."""

import dataclasses
from collections.abc import Callable

import numpy as np

_VIEWS_KEY = 0x7669657773  # keeps these random streams apart from those of augmentation by epoch


@dataclasses.dataclass(frozen=True)
class AugmentedViews:
    """View 0 is the unchanged image, views 1 to `augmented` are augmented. All views come up equally often.

    Attributes:
        augmented: number of augmented views of an image.
    """

    augmented: int

    def view_numbers(self, epoch: int, rows: np.ndarray, repeats: np.ndarray) -> np.ndarray:
        """Return the number of the view to show for each row of a batch.

        Args:
            rows: row numbers of the batch.
            repeats: how often each row came up earlier in the same epoch.
        """
        return (epoch + np.asarray(rows) + repeats) % (self.augmented + 1)

    def random_streams(
        self, seed: int, rows: np.ndarray, numbers: np.ndarray
    ) -> Callable[[int, int], np.random.Generator | None]:
        """Return a function (position in the batch, eye number) -> generator, or None for an unchanged view."""

        def stream(i, eye):
            if not numbers[i]:
                return None
            counter = [0, eye, int(numbers[i]), int(rows[i])]
            return np.random.Generator(np.random.Philox(key=[seed, _VIEWS_KEY], counter=counter))

        return stream
