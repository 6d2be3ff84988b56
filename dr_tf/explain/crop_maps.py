"""What speaks for positive, on the crops that a network takes: for pages where it stands beside figures."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl import logging

from dr_tf.console import UserError
from dr_tf.explain import colour_scale
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.overlay import overlay_on_crop


@dataclasses.dataclass(frozen=True)
class CropMaps:
    """Of each example `maps` has {eye: colours, 0 to 1}; the one eye of a single photograph is called None."""

    outputs: dict[str, np.ndarray]  # logits
    maps: list[dict[str | None, np.ndarray]]
    full: float | None  # a map's value of full colour; None: each example is stretched to its own strongest place


def default_explainer(model, rule):
    """The default Explainer of what decides, or None, and a line in the log, where the network has no map of places."""
    try:
        explainer = Explainer(model, rule.head, output=rule.decides)
        explainer(black(model))  # some layers only tell when they are asked
        return explainer
    except UserError as error:
        logging.info("no overlays: %s", error)
        return None


def black(model):
    """One example as it is given to the model, photographs in bytes."""

    def of(tensor):
        return tf.zeros((1, *tensor.shape[1:]), tf.uint8 if len(tensor.shape) == 4 else tensor.dtype)

    return tf.nest.map_structure(of, model.input)


def explain_crops(explainer, batches, fitted=None):
    """An CropMaps of batches; `fitted`: what `colour_scale.read_scale` gave of the network's run."""
    full = colour_scale.full_colour(fitted, explainer)
    found = [explainer(x) for x in batches]
    maps = [eyes for one in found for eyes in _each(colour_scale.coloured(one.maps, full))]
    outputs = {name: np.concatenate([one.outputs[name] for one in found]) for name in found[0].outputs}
    return CropMaps(outputs, maps, full)


def _each(maps):
    by_eye = maps if isinstance(maps, dict) else {None: maps}
    return [dict(zip(by_eye, eyes, strict=True)) for eyes in zip(*by_eye.values(), strict=True)]


def stacked(crops, maps=None):
    """Crops {eye: uint8 RGB} one above the other as one picture; with their maps, overlaid."""
    return np.vstack([crop if maps is None else overlay_on_crop(crop, maps[eye]) for eye, crop in crops.items()])
