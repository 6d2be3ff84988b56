"""Training on lesion masks: the evidence map of a decoder is compared with them, for the examples that have any."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.mask_targets import MaskTargets
from dr_tf.explain.scorecard.masks import any_lesion, read_masks
from dr_tf.models.fcn_decoder import with_map_output
from dr_tf.models.losses import DiceLoss
from dr_tf.models.stages import EVIDENCE
from dr_tf.parameters import Natural, Positive

if TYPE_CHECKING:
    import keras

    from dr_tf.data.augmentation import Augmentation
    from dr_tf.data.records import Records
    from dr_tf.models.heads.head import Head
    from dr_tf.training.data_roles import Roles

LESION_MAP = "lesion_map"  # output of the map, in training only


@dataclasses.dataclass(frozen=True)
class LesionMasks:
    """Settings of training on lesion masks. A config sets its attributes as `lesion_masks.NAME`.

    Attributes:
        weight: weight of the loss of the map, the soft Dice loss against the union of all lesion masks. As for other
            unknown labels, examples without masks count as 0 in its mean over a batch.
        unlabelled: examples with masks, but without a label of the deciding output, that are added to each batch. Only
            the loss of the map is trained on them.
    """

    weight: Positive = 1.0
    unlabelled: Natural = 2

    def targets(
        self, records: Records, roles: Roles, *, model: keras.Model, augmentation: Augmentation | None
    ) -> MaskTargets:
        """Read the masks of the examples that train or select.

        Args:
            records: the record set.
            roles: roles of its examples.
            model: the network, an `fcn_classifier`.
            augmentation: augmentation of the training images.

        Raises:
            UserError: no training example has masks, or the augmentation moves images in a way that masks cannot follow.
        """
        if augmentation and augmentation.policy and augmentation.policy.geometric:
            raise UserError(
                "train.masks cannot follow rand_augment.geometric: move images by augmentation.warp instead"
            )
        rows = np.concatenate([roles.fit, roles.unlabelled, roles.select])
        masks = {row: any_lesion(lesions) for (row, _), lesions in read_masks(records, rows).items()}
        if not masks.keys() & set(rows[: len(rows) - len(roles.select)].tolist()):
            raise UserError(f"no training example of {records.name} has lesion masks: leave out train.masks")
        return MaskTargets(masks, count=len(records), side=_map_side(model), augmentation=augmentation)

    def loss(self) -> keras.losses.Loss:
        """Build the loss of (shares of lesion, map)."""
        return DiceLoss()

    def add_output(self, model: keras.Model, output: str, head: Head) -> keras.Model:
        """Add the map as the output `LESION_MAP` to the part of a network that is trained."""
        return with_map_output(model, output, head, LESION_MAP)


def _map_side(model):
    if EVIDENCE not in [layer.name for layer in model.layers]:
        raise UserError("train.masks needs the evidence map of train.model = @fcn_classifier")
    return model.get_layer(EVIDENCE).output.shape[1]
