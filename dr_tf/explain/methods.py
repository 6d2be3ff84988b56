"""`METHODS`: the registry of methods that compute maps."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.activations import MapLayer
from dr_tf.explain.attention_rollout import AttentionRollout
from dr_tf.explain.cross_attention import CrossAttentionMaps
from dr_tf.explain.evidence_network import EvidenceNetwork, MapResult
from dr_tf.explain.layer_maps import LayerMaps, grad_cam, grad_cam_plus_plus, hires_cam
from dr_tf.explain.nearest_cases import NEAREST_CASES
from dr_tf.explain.perturbation import IntegratedGradientsMaps, OcclusionMaps, ScoreCamMaps


class MapComputer(Protocol):
    """Computes the maps of a batch by one method."""

    @property
    def layer_name(self) -> str:
        """What the maps are computed from, for people; of an ensemble that of its first member."""

    @property
    def layers(self) -> Sequence[MapLayer]:
        """The layers that the maps are computed from; none if the method uses pixels."""

    def __call__(self, x: Any, target_indices: tf.Tensor) -> MapResult:
        """Compute the maps of a batch, each example for its own target."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        title: Its name in the literature.
        build: Builds the computer of maps from (network, layer or None for the default).
        slow: Whether it runs the network many times for each map, which takes seconds instead of milliseconds.
        by_target: Whether the map depends on the target.
    """

    title: str
    build: Callable[[EvidenceNetwork, str | None], MapComputer]
    slow: bool = False
    by_target: bool = True


def _of_layer(title, function):
    return Method(title, functools.partial(LayerMaps, function=function))


METHODS = {
    "grad_cam": _of_layer("Grad-CAM", grad_cam),
    "grad_cam_plus_plus": _of_layer("Grad-CAM++", grad_cam_plus_plus),
    "hires_cam": _of_layer("HiResCAM", hires_cam),
    "score_cam": Method("Score-CAM", ScoreCamMaps, slow=True),
    "integrated_gradients": Method("Integrated gradients", IntegratedGradientsMaps, slow=True),
    "occlusion": Method("Occlusion", OcclusionMaps, slow=True),
    "attention_rollout": Method("Attention rollout", AttentionRollout, by_target=False),
    "cross_attention": Method("Cross-attention", CrossAttentionMaps, by_target=False),
}
# With `activations.DEFAULT_LAYER` it pointed best at real lesions, on photographs that are not reported (RESULTS.md).
DEFAULT_METHOD = "hires_cam"


def find_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        UserError: The name is unknown.
    """
    if name == NEAREST_CASES:
        raise UserError(f"{NEAREST_CASES} shows training cases, not a map: only `dr_tf explain` has it")
    if name not in METHODS:
        raise UserError(f"unknown method {name!r}; known: {', '.join((*METHODS, NEAREST_CASES))}")
    return METHODS[name]
