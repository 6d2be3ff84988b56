"""What speaks for positive, on the crops that a network takes: for pages where it stands beside figures."""

import dataclasses

import numpy as np
from absl import logging

from dr_tf.console import UserError
from dr_tf.explain import scale
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.overlay import overlay_on_crop


@dataclasses.dataclass(frozen=True)
class Explained:
    """Of each example `maps` has {eye: colours, 0 to 1}; the one eye of a single photograph is called None."""

    logits: np.ndarray
    maps: list[dict[str | None, np.ndarray]]
    full: float | None  # a map's value of full colour; None: each example is stretched to its own strongest place


def explained(model, head, batches, fitted=None):
    """An Explained by the default method, or None, and a line in the log, where the network has no map of places.

    `fitted`: what `scale.read_scale` gave of the network's run.
    """
    try:
        explainer = Explainer(model, head)
        full = scale.full_colour(fitted, explainer)
        found = [explainer(x) for x in batches]
    except UserError as error:
        logging.info("no overlays: %s", error)
        return None
    maps = [eyes for one in found for eyes in _each(scale.coloured(one.maps, full))]
    return Explained(np.concatenate([one.logits for one in found]), maps, full)


def _each(maps):
    by_eye = maps if isinstance(maps, dict) else {None: maps}
    return [dict(zip(by_eye, eyes, strict=True)) for eyes in zip(*by_eye.values(), strict=True)]


def stacked(crops, maps=None):
    """Crops {eye: uint8 RGB} one above the other as one picture; with their maps, overlaid."""
    return np.vstack([crop if maps is None else overlay_on_crop(crop, maps[eye]) for eye, crop in crops.items()])
