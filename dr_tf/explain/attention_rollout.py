"""Attention rollout for vision transformers (Abnar and Zuidema, ACL 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.activations import find_attentions
from dr_tf.explain.evidence_network import EvidenceNetwork, MapResult, Traced
from dr_tf.explain.layer_maps import mean_of_members, record_by_eye
from dr_tf.models.network import member_networks


def attention_rollout(scores: Sequence[tf.Tensor]) -> tf.Tensor:
    """Multiply the attention of all blocks, which shows from which patches the class token could collect information.

    The scores of the heads are averaged. The shortcut around each attention is the identity matrix, with half of the
    weight.

    Args:
        scores: The attention scores of each block, [n, heads, tokens, tokens]; the first token is the class token.

    Returns:
        The attention of the class token to the patches, [n, side, side].
    """
    tokens = scores[0].shape[-1]
    rollout = identity = tf.eye(tokens)
    for of_block in scores:
        rollout = (0.5 * tf.reduce_mean(of_block, axis=1) + 0.5 * identity) @ rollout
    side = math.isqrt(tokens - 1)
    return tf.reshape(rollout[:, 0, 1:], (-1, side, side))


class AttentionRollout:
    """Computes attention rollout. The map is the same for every target, as no gradient is used.

    Args:
        network: The network and its evidence.
        layer: None, as all attention layers are used.

    Raises:
        UserError: A layer is named, or the network is no vision transformer with a class token.
    """

    layer_name = "all attention layers"

    def __init__(self, network: EvidenceNetwork, layer: str | None):
        if layer is not None:
            raise UserError(f"attention_rollout uses all attention layers: {layer!r} cannot be chosen")
        self._by_member = [find_attentions(member) for member in member_networks(network.model)]
        self.layers = [layer for of_member in self._by_member for layer in of_member]
        self._network, self._run = network, Traced(self._maps)

    def __call__(self, x: Any, target_indices: tf.Tensor) -> MapResult:
        """Compute the maps of a batch."""
        outputs, features, evidence, maps = self._run(x, target_indices)
        return MapResult(outputs, features, evidence, maps if isinstance(x, dict) else {None: maps})

    def _maps(self, x, target_indices):
        forward, scores, _ = record_by_eye(self._network, self.layers, x, target_indices)
        remaining = iter(scores)
        members = [[next(remaining) for _ in of_member] for of_member in self._by_member]
        maps = mean_of_members([
            {eye: attention_rollout([_checked(block[eye]) for block in blocks]) for eye in blocks[0]}
            for blocks in members
        ])  # fmt: skip
        return *forward, maps if isinstance(x, dict) else maps[None]


def _checked(scores):
    """Attention between a class token and a square of patches."""
    queries, keys = scores.shape[-2:]
    if queries != keys or keys < 2 or math.isqrt(keys - 1) ** 2 != keys - 1:
        raise UserError("attention_rollout needs a vision transformer with a class token and a square of patches")
    return scores
