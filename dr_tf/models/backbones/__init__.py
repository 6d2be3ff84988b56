"""The backbones by name, and the one way to build them."""

import inspect

from dr_tf.console import UserError
from dr_tf.models.backbones import applications
from dr_tf.models.backbones.backbone import Backbone, assemble
from dr_tf.models.backbones.presets import keras_hub
from dr_tf.models.backbones.resnet_v2 import resnet_v2

__all__ = ["BACKBONES", "Backbone", "build_backbone"]

# Name -> function of (image_size, weights, and options of its own) that gives a Body.
BACKBONES = {"resnet_v2": resnet_v2, "keras_hub": keras_hub, **applications.BUILDERS}


def build_backbone(name, *, image_size, weights=None, trainable_from="all", freeze_batch_norm=False, **options):
    """A backbone that takes RGB 0-255.

    `trainable_from`: "all", "none", or the stage from which upward it is trained; what lies below is frozen altogether:
    weights, batch-norm statistics, dropout. `freeze_batch_norm`: all batch norm stays as it came with the weights, so that a
    head that was fitted on the frozen backbone still fits when the rest is trained.
    """
    if name not in BACKBONES:
        raise UserError(f"unknown backbone {name!r}; known: {', '.join(sorted(BACKBONES))}")
    known = set(inspect.signature(BACKBONES[name]).parameters) - {"image_size", "weights"}
    if unknown := set(options) - known:
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise UserError(f"backbone {name} has no option {', '.join(sorted(unknown))}; {has}")
    body = BACKBONES[name](image_size=image_size, weights=weights, **options)
    how = {"trainable_from": trainable_from, "freeze_batch_norm": freeze_batch_norm}
    return assemble(name, body, image_size=image_size, **how)
