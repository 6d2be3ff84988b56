"""Views of photographs that show the same eye: mirrored and turned. A retina has no up that a grade depends on."""

import numpy as np

COUNTS = (1, 2, 4, 8)  # each is a group: a photograph that comes turned has the same views


def view(images, number):
    """View 0 is as it is; 1 is mirrored, 2 upside down, 3 turned by half; 4 to 7 are these with the diagonal as mirror
    before.

    Args:
        images: [n, side, side, 3], or a dict of both eyes and whether they are there. A mirrored left eye looks like a
            right one, so that in a mirrored view the two change places.
    """
    if isinstance(images, dict):
        mirrored = bin(number).count("1") % 2 == 1
        swapped = {name: images[_other(name)] for name in images} if mirrored else images
        return {name: view(x, number) if len(x.shape) == 4 else x for name, x in swapped.items()}
    if number == 0:
        return images
    x = np.asarray(images)
    x = x.swapaxes(1, 2) if number & 4 else x
    return x[:, :: -1 if number & 2 else 1, :: -1 if number & 1 else 1]


def _other(name):
    eye, _, rest = name.partition("_")
    return {"left": "right", "right": "left"}[eye] + (f"_{rest}" if rest else "")
