"""Views of photographs that show the same eye: mirrored and turned. A retina has no up that a grade depends on."""

import numpy as np

COUNTS = (1, 2, 4, 8)  # each is a group: a photograph that comes turned has the same views


def view(x, number):
    """View 0 is x; 1 is mirrored, 2 upside down, 3 turned by half; 4 to 7 are these with the diagonal as mirror before.

    `x`: [n, side, side, 3], or a dict of such, of which what is no photograph stays as it is.
    """
    if isinstance(x, dict):
        return {name: view(value, number) if len(value.shape) == 4 else value for name, value in x.items()}
    if number == 0:
        return x
    x = np.asarray(x)
    x = x.swapaxes(1, 2) if number & 4 else x
    return x[:, :: -1 if number & 2 else 1, :: -1 if number & 1 else 1]
