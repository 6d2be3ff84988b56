"""Cross-attention between the eyes: which places of one eye the other eye attends to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.activations import MapLayer
from dr_tf.explain.evidence_network import EvidenceNetwork, MapResult, Traced
from dr_tf.explain.layer_maps import mean_of_members
from dr_tf.grades import EYES
from dr_tf.models.cross_attention import attention_scores
from dr_tf.models.network import member_networks


class CrossAttentionMaps:
    """Computes how much the other eye attends to each place of an eye.

    The map of an eye is the mean attention that its places receive, over all places of the other eye, heads and blocks. It
    is the same for every target, as no gradient is used. If the other eye is absent, it is 0.

    Args:
        network: The network and its evidence.
        layer: None, as all blocks are used.

    Raises:
        UserError: A layer is named, or the network has no cross-attention.
    """

    layer_name = "all cross-attention"

    def __init__(self, network: EvidenceNetwork, layer: str | None):
        if layer is not None:
            raise UserError(f"cross_attention uses all blocks: {layer!r} cannot be chosen")
        members = member_networks(network.model)
        scores = [attention_scores(member) for member in members]
        if not all(of_member["left"] for of_member in scores):
            raise UserError(
                "the network has no attention between the eyes: it was not made by @cross_attention_classifier"
            )
        self.layers: list[MapLayer] = []
        self._network = network
        self._members = [keras.Model(m.input, of_member) for m, of_member in zip(members, scores, strict=True)]
        self._run = Traced(self._maps)

    def __call__(self, x: Any, target_indices: tf.Tensor) -> MapResult:
        """Compute the maps of a batch."""
        del target_indices
        return MapResult(*self._network(x), self._run(x))

    def _maps(self, x):
        return mean_of_members([self._of_member(member(x, training=False), x) for member in self._members])

    def _of_member(self, scores, x):
        return {
            eye: received_attention(scores[other], mirrored=eye in self._network.mirrored)
            * tf.cast(x[f"{other}_present"], tf.float32)[:, None, None]
            for eye, other in zip(EYES, EYES[::-1], strict=True)
        }


def received_attention(scores: Sequence[tf.Tensor], *, mirrored: bool = False) -> tf.Tensor:
    """Average the attention that each place receives.

    Args:
        scores: The attention scores of each block, [n, heads, attending places, attended places].
        mirrored: Whether the network mirrored the image of the attended eye: the map is mirrored back.

    Returns:
        Maps [n, side, side].
    """
    mean = tf.reduce_mean(
        tf.stack([tf.reduce_mean(tf.cast(of_block, tf.float32), axis=(1, 2)) for of_block in scores]), 0
    )
    side = math.isqrt(mean.shape[-1])
    maps = tf.reshape(mean, (-1, side, side))
    return tf.reverse(maps, [2]) if mirrored else maps
