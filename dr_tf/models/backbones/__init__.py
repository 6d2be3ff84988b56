"""Backbones: registered by name, and built by `build_backbone`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from dr_tf.console import UserError
from dr_tf.models.backbones import applications
from dr_tf.models.backbones.backbone import Backbone, Body, assemble
from dr_tf.models.backbones.clip_resnet import clip_resnet
from dr_tf.models.backbones.clip_vit import clip_vit
from dr_tf.models.backbones.presets import keras_hub
from dr_tf.models.backbones.resnet_v2 import resnet_v2
from dr_tf.parameters import ImageSize, annotations_of, check

__all__ = ["BACKBONES", "Backbone", "build_backbone"]

# Name -> function of (image_size, weights, and its own options) that returns a Body.
BACKBONES: dict[str, Callable[..., Body]] = {
    "resnet_v2": resnet_v2,
    "keras_hub": keras_hub,
    "clip_resnet": clip_resnet,
    "clip_vit": clip_vit,
    **applications.BUILDERS,
}


def build_backbone(
    name: str,
    *,
    image_size: ImageSize,
    weights: str | None = None,
    trainable_from: str = "all",
    freeze_batch_norm: bool = False,
    **options: Any,
) -> Backbone:
    """Build a backbone that takes RGB images 0-255.

    Args:
        name: A name in `BACKBONES`.
        image_size: Side of the images in pixels.
        weights: Pretrained weights, as the backbone takes them; None for random ones.
        trainable_from: "all", "none", or the first stage to train. The stages before it are frozen completely: weights,
            batch-norm statistics and dropout.
        freeze_batch_norm: Whether to freeze all batch norm, also in trained stages. A head that was trained on the
            frozen backbone then still fits when fine-tuning starts.
        **options: Options of the backbone itself.

    Raises:
        UserError: The name, an option or a stage is unknown, or the weights cannot be loaded.
    """
    if name not in BACKBONES:
        raise UserError(f"unknown backbone {name!r}; known: {', '.join(sorted(BACKBONES))}")
    known = set(inspect.signature(BACKBONES[name]).parameters) - {"image_size", "weights"}
    if unknown := set(options) - known:
        available = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise UserError(f"backbone {name} has no option {', '.join(sorted(unknown))}; {available}")
    annotations = annotations_of(BACKBONES[name]) if options else {}
    for option, value in options.items():
        check(f"backbone.{option}", value, annotations.get(option, Any))
    body = BACKBONES[name](image_size=image_size, weights=weights, **options)
    return assemble(
        name, body, image_size=image_size, trainable_from=trainable_from, freeze_batch_norm=freeze_batch_norm
    )
