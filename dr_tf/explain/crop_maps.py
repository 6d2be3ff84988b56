"""Class-activation maps of record images, for reports and TensorBoard: drawn on the crops that the network takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import tensorflow as tf
from absl import logging

from dr_tf.console import UserError
from dr_tf.explain.colour_scale import MapScale, full_colour_value, method_of_run, scale_maps
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.explanation import Images
from dr_tf.explain.export_explainer import ExportExplainer
from dr_tf.explain.overlay import overlay_on_crop
from dr_tf.inference.exported_network import ExportedNetwork
from dr_tf.inference.network import Network

if TYPE_CHECKING:
    import keras

    from dr_tf.inference.rule import Rule
    from dr_tf.models.network import KerasNetwork


@dataclasses.dataclass(frozen=True)
class CropMaps:
    """Outputs and maps of n examples.

    Attributes:
        outputs: {output: logits [n, ...]}.
        maps: For each example {eye: map [h, w] with values 0 to 1}; the eye of a single image is None.
        full_colour: The map value that became 1; None if each example is stretched to its own maximum.
    """

    outputs: dict[str, np.ndarray]
    maps: list[dict[str | None, np.ndarray]]
    full_colour: float | None


def default_explainer(model: keras.Model, rule: Rule, scale: MapScale | None = None) -> Explainer | None:
    """Build the explainer with default method and layer of the output that decides.

    Args:
        model: The network.
        rule: The rule of its run.
        scale: The colour scale of the run, which names its method.

    Returns:
        The explainer, or None if no map can be computed from the network; the reason is logged.
    """
    try:
        explainer = Explainer(model, rule.head, output=rule.decides, method=method_of_run(scale))
        explainer(black_images(model))  # some layers raise only when they are called
        return explainer
    except UserError as error:
        logging.info("no class-activation maps: %s", error)
        return None


def explainer_of(network: Network, rule: Rule, scale: MapScale | None = None) -> Explainer | ExportExplainer | None:
    """Build the default explainer of a run's network, or of an export whose maps have a closed form; otherwise None."""
    if isinstance(network, ExportedNetwork):
        return ExportExplainer(network, rule.head) if network.export.map_layer else None
    return default_explainer(cast("KerasNetwork", network).model, rule, scale)


def black_images(model: keras.Model) -> Images:
    """Return a batch of one black example as a model takes it, with uint8 images."""

    def zeros(tensor):
        return tf.zeros((1, *tensor.shape[1:]), tf.uint8 if len(tensor.shape) == 4 else tensor.dtype)

    return tf.nest.map_structure(zeros, model.input)


def explain_crops(
    explainer: Explainer | ExportExplainer, batches: Iterable[Images], scale: MapScale | None = None
) -> CropMaps:
    """Explain the "positive" target of batches of crops.

    Args:
        explainer: The explainer.
        batches: Batches of crops; at least one.
        scale: The colour scale of the run, as `read_scale` returns it.
    """
    full_colour = full_colour_value(scale, explainer)
    explanations = [explainer(x) for x in batches]
    maps = [eyes for one in explanations for eyes in _by_example(scale_maps(one.maps, full_colour))]
    outputs = {name: np.concatenate([one.outputs[name] for one in explanations]) for name in explanations[0].outputs}
    return CropMaps(outputs, maps, full_colour)


def _by_example(maps):
    by_eye = maps if isinstance(maps, dict) else {None: maps}
    return [dict(zip(by_eye, eyes, strict=True)) for eyes in zip(*by_eye.values(), strict=True)]


def stack_eyes(
    crops: Mapping[str | None, np.ndarray], maps: Mapping[str | None, np.ndarray] | None = None
) -> np.ndarray:
    """Stack the crops of an example vertically in one picture, uint8 RGB.

    Args:
        crops: {eye: uint8 RGB}.
        maps: {eye: map with values 0 to 1} to overlay; None for the crops alone.
    """
    return np.vstack([crop if maps is None else overlay_on_crop(crop, maps[eye]) for eye, crop in crops.items()])
