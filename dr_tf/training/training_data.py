"""Training data of a run: targets, sample weights, and the batches for Keras."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.augmented_views import AugmentedViews
from dr_tf.data.batches import ordered_batches, training_batches
from dr_tf.data.images import ImageLoader
from dr_tf.data.mask_targets import MaskTargets
from dr_tf.data.records import Records
from dr_tf.data.sampling import with_more
from dr_tf.training.data_roles import Roles, check_classes, class_weights, weighted_prior
from dr_tf.training.experiment import Experiment
from dr_tf.training.lesion_masks import LESION_MAP

if TYPE_CHECKING:
    import tensorflow as tf


class TrainingData:
    """Batches of images, targets and sample weights of one run.

    Args:
        experiment: the experiment.
        records: the record set.
        roles: which examples are for training and which select the epoch.
        image_size: side of the model's images in pixels.
        inputs: names of the inputs of a model of both eyes; by default all that pairs have.
        masks: lesion masks, if they are trained on.

    Attributes:
        images: images of the record set at the model's size.
        rows: training examples, as row numbers: those of `roles.fit`, then those with lesion masks only.
        order: order of the training examples in every epoch.
        fitted_classes: {output: true classes of the training examples}.
        targets: {output: target of every example of the record set}.
        label_masks: {output: 1.0 for examples that have its label, else 0.0}; None if all examples have all labels.
        weights: {output: sample weight of every example}, 0 where its label is unknown; None if all weights are 1.
        batch_prior: class prior of the weighted training batches, for the deciding output.

    Raises:
        UserError: the records lack a class, a label or a split that the experiment needs.
    """

    def __init__(
        self,
        experiment: Experiment,
        records: Records,
        roles: Roles,
        image_size: int,
        inputs: Collection[str] | None = None,
        masks: MaskTargets | None = None,
    ) -> None:
        self._experiment, self._records, self._roles = experiment, records, roles
        self.fitted_classes = {
            output: head.true_classes(records.columns)[roles.fit] for output, head in experiment.heads.items()
        }
        true_classes = self.fitted_classes[experiment.deciding_output]
        check_classes(experiment.head, true_classes, records.name)
        _check_other_outputs(experiment, records, roles)
        if experiment.monitored and not len(roles.select):
            raise UserError(f"{records.name} has no validation split to select an epoch by: set train.keep = 'last'")
        self.targets: dict[str, np.ndarray | MaskTargets] = {
            output: head.targets(records.columns) for output, head in experiment.heads.items()
        }
        self.order = experiment.sampling.plan(
            true_classes, batch_size=experiment.batch_size, seed=experiment.seed, sources=records.sources[roles.fit]
        )
        self.rows = roles.fit
        self.label_masks = _label_masks(experiment, records, np.concatenate([roles.fit, roles.select]), masks)
        if masks:
            self.targets[LESION_MAP] = masks
            self._add_rows_with_masks_only(masks)
        self.weights, self.batch_prior = self._weights_and_prior(true_classes)
        self.images = ImageLoader(
            records,
            image_size=image_size,
            cache=experiment.cache,
            cache_dir=experiment.cache_dir,
            inputs=inputs,
        )

    def training_batches(
        self, first_epoch: int = 0, *, augmented: bool = True, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """Return the training batches from `first_epoch` on as one dataset of (x, targets) or (x, targets, weights).

        Args:
            first_epoch: number of the first epoch, from 0.
            augmented: whether images are augmented.
            shard: (i, n) for every n-th example of each batch from the i-th on.
        """
        experiment = self._experiment
        return training_batches(
            self.images,
            self.targets,
            rows=self.rows,
            order=self.order,
            first_epoch=first_epoch,
            epochs=experiment.epochs,
            seed=experiment.seed,
            augmentation=experiment.augmentation if augmented else None,
            weights=self.weights,
            shard=shard,
            views=AugmentedViews(experiment.feature_bank.views) if experiment.feature_bank else None,
        )

    def ordered_batches(self, rows: np.ndarray) -> tf.data.Dataset:
        """Return each of these rows of the record set once, in order and without augmentation."""
        size = self._experiment.validation_batch_size
        return ordered_batches(self.images, self.targets, rows=rows, batch_size=size, weights=self.label_masks)

    def sample_images(self) -> np.ndarray:
        """Return the images of the first batch, uint8 [n, size, size, 3]; of pairs the left eyes before the right ones."""
        x = next(iter(self.training_batches()))[0]
        return np.concatenate([x["left"], x["right"]]) if self._records.paired else x.numpy()

    def batch_names(self, epoch: int, step: int) -> list[str]:
        """Return the image ids of a training batch; of pairs the patient ids."""
        rows = self.rows[self.order.epoch(epoch)[step]]
        column = "patient_id" if self._records.paired else "image_id"
        return [str(name) for name in self._records.columns[column][rows]]

    def _add_rows_with_masks_only(self, masks):
        settings, fitted = self._experiment.masks, len(self.rows)
        added = self._roles.unlabelled[masks.known[self._roles.unlabelled]]
        if len(added) and settings.unlabelled:
            self.rows = np.concatenate([self.rows, added])
            self.order = with_more(
                self.order, settings.unlabelled, first=fitted, examples=len(added), seed=self._experiment.seed
            )

    def _weights_and_prior(self, true_classes):
        experiment = self._experiment
        if experiment.class_weights is None:
            return self.label_masks, self.order.prior
        head, count = experiment.head, len(self._records)
        fitted, by_class = class_weights(experiment.class_weights, true_classes, len(head.classes))
        weights = np.ones(count, np.float32)
        weights[self._roles.fit] = fitted
        masks = self.label_masks or {output: np.ones(count, np.float32) for output in experiment.heads}
        prior = weighted_prior(self.order.prior, true_classes, fitted, by_class, exclusive=head.exclusive)
        deciding = experiment.deciding_output
        return masks | {deciding: masks[deciding] * weights}, prior


def _check_other_outputs(experiment, records, roles):
    for output, head in experiment.heads.items():
        if output != experiment.deciding_output and not head.has_label(records.columns)[roles.fit].any():
            raise UserError(
                f"no training example of {records.name} has a label for the output {output!r} ({head.name}): leave it out "
                "of train.heads"
            )


def _label_masks(
    experiment: Experiment, records: Records, rows: np.ndarray, masks: MaskTargets | None
) -> Mapping[str, np.ndarray] | None:
    has_label = {output: head.has_label(records.columns) for output, head in experiment.heads.items()}
    if masks:
        has_label[LESION_MAP] = masks.known
    elif all(known[rows].all() for known in has_label.values()):
        return None
    return {output: known.astype(np.float32) for output, known in has_label.items()}
