"""What a run reads: its rows, targets and weights, and the batches made of them."""

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.batches import ordered_batches, training_batches
from dr_tf.data.photographs import Photographs
from dr_tf.data.views import Views
from dr_tf.training.roles import check_classes, class_weights


class Feed:
    def __init__(self, experiment, records, roles, image_size):
        self.experiment, self.records, self.roles = experiment, records, roles
        head = experiment.head
        strata = head.strata(records.columns)[roles.fit]
        check_classes(head, strata, records.name)
        if experiment.watched and not len(roles.select):
            raise UserError(f"{records.name} has no validation split to choose an epoch by; say train.keep = 'last'")
        self.targets = head.targets(records.columns)
        self.order = experiment.sampling.plan(
            strata, batch_size=experiment.batch_size, seed=experiment.seed, sources=records.sources[roles.fit]
        )
        self.weights, self.prior = self._weighted(strata)
        self.photographs = Photographs(
            records, image_size=image_size, cache=experiment.cache, cache_dir=experiment.cache_dir
        )

    def training(self, first_epoch=0, augmented=True, shard=(0, 1)):
        return training_batches(
            self.photographs,
            self.targets,
            rows=self.roles.fit,
            order=self.order,
            first_epoch=first_epoch,
            epochs=self.experiment.epochs,
            seed=self.experiment.seed,
            augmentation=self.experiment.augmentation if augmented else None,
            weights=self.weights,
            shard=shard,
            views=self.experiment.feature_bank and Views(self.experiment.feature_bank.views),
        )

    def ordered(self, rows):
        size = self.experiment.validation_batch_size
        return ordered_batches(self.photographs, self.targets, rows=rows, batch_size=size)

    def sample(self):
        """The first photographs that the model is fed, uint8 [n, size, size, 3]; of both eyes one after the other."""
        x = next(iter(self.training()))[0]
        return np.concatenate([x["left"], x["right"]]) if self.records.paired else x.numpy()

    def names(self, epoch, step):
        """The photographs of a batch, as they are called in the records."""
        rows = self.roles.fit[self.order.epoch(epoch)[step]]
        column = "patient_id" if self.records.paired else "image_id"
        return [str(name) for name in self.records.columns[column][rows]]

    def _weighted(self, strata):
        """A weight per example of the record set, or None, and the prior that the fitted ones then have."""
        wanted = self.experiment.class_weights
        if wanted is None:
            return None, self.order.prior
        fitted, by_class = class_weights(wanted, strata)
        weights = np.ones(len(self.targets), np.float32)
        weights[self.roles.fit] = fitted
        shifted = np.asarray(self.order.prior) * by_class
        return weights, shifted / shifted.sum()
