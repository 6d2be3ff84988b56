"""What speaks for positive, on the crops that a network takes: for pages where it stands beside figures."""

import numpy as np
from absl import logging

from dr_tf.console import UserError
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.overlay import overlay_on_crop


def explained(model, head, batches, output=None):
    """({output: logits}, maps) by the default method, or None, and a line in the log, where the network has no map of places.

    Of each example there is {eye: map}; the one eye of a single photograph is called None.
    """
    try:
        explainer = Explainer(model, head, output=output)
        found = [explainer(x) for x in batches]
    except UserError as error:
        logging.info("no overlays: %s", error)
        return None
    outputs = {name: np.concatenate([one.outputs[name] for one in found]) for name in found[0].outputs}
    return outputs, [eyes for one in found for eyes in _each(one.maps)]


def _each(maps):
    by_eye = maps if isinstance(maps, dict) else {None: maps}
    return [dict(zip(by_eye, eyes, strict=True)) for eyes in zip(*by_eye.values(), strict=True)]


def stacked(crops, maps=None):
    """Crops {eye: uint8 RGB} one above the other as one picture; with their maps, overlaid."""
    return np.vstack([crop if maps is None else overlay_on_crop(crop, maps[eye]) for eye, crop in crops.items()])
