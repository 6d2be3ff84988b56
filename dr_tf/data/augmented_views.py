"""A photograph as it is and in so many changed views, the same ones in every epoch: what can be computed once and kept."""

import dataclasses

import numpy as np

_VIEWS = 0x7669657773  # keeps their random numbers apart from those of an epoch


@dataclasses.dataclass(frozen=True)
class Views:
    """View 0 is the photograph unchanged, 1 to `changed` are augmented. All of them come up equally often."""

    changed: int

    def shown(self, epoch, rows, before):
        """The view that each row shows when it comes up, for the (before + 1)-th time, in that epoch."""
        return (epoch + np.asarray(rows) + before) % (self.changed + 1)

    def streams(self, seed, rows, numbers):
        """What gives the random numbers of the i-th photograph of a batch, or None for one that stays as it is."""

        def stream(i, side):
            if not numbers[i]:
                return None
            counter = [0, side, int(numbers[i]), int(rows[i])]
            return np.random.Generator(np.random.Philox(key=[seed, _VIEWS], counter=counter))

        return stream
