"""What a run reads: its rows, targets and weights, and the batches made of them."""

import functools

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.augmented_views import Views
from dr_tf.data.batches import ordered_batches, training_batches
from dr_tf.data.images import Photographs
from dr_tf.training.data_roles import check_classes, class_weights


class TrainingData:
    """Targets and weights are {output: an entry for each example}; an example whose label an output lacks weighs 0 there."""

    def __init__(self, experiment, records, roles, image_size):
        self.experiment, self.records, self.roles = experiment, records, roles
        columns, head = records.columns, experiment.head
        strata = head.strata(columns)[roles.fit]
        check_classes(head, strata, records.name)
        self._check_others(columns)
        if experiment.watched and not len(roles.select):
            raise UserError(f"{records.name} has no validation split to choose an epoch by; say train.keep = 'last'")
        self.targets = {output: head.targets(columns) for output, head in experiment.heads.items()}
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
        return ordered_batches(self.photographs, self.targets, rows=rows, batch_size=size, weights=self.masks)

    def sample(self):
        """The first photographs that the model is fed, uint8 [n, size, size, 3]; of both eyes one after the other."""
        x = next(iter(self.training()))[0]
        return np.concatenate([x["left"], x["right"]]) if self.records.paired else x.numpy()

    def names(self, epoch, step):
        """The photographs of a batch, as they are called in the records."""
        rows = self.roles.fit[self.order.epoch(epoch)[step]]
        column = "patient_id" if self.records.paired else "image_id"
        return [str(name) for name in self.records.columns[column][rows]]

    def _check_others(self, columns):
        for output, head in self.experiment.heads.items():
            if output != self.experiment.output and not head.usable(columns)[self.roles.fit].any():
                raise UserError(
                    f"these records have no label that the output {output!r} ({head.name}) could learn from: leave it out of "
                    "train.heads"
                )

    @functools.cached_property
    def masks(self):
        """{output: 1 for an example that it has a label of, else 0}; None where every example has every label."""
        heads, columns = self.experiment.heads, self.records.columns
        known = {output: head.usable(columns) for output, head in heads.items()}
        rows = np.concatenate([self.roles.fit, self.roles.select])
        if all(of[rows].all() for of in known.values()):
            return None
        return {output: of.astype(np.float32) for output, of in known.items()}

    def _weighted(self, strata):
        """Weights of the examples for each output, None where all are 1, and the prior that the fitted ones then have."""
        wanted = self.experiment.class_weights
        if wanted is None:
            return self.masks, self.order.prior
        fitted, by_class = class_weights(wanted, strata, len(self.experiment.head.classes))
        weights = np.ones(len(self.records), np.float32)
        weights[self.roles.fit] = fitted
        masks = self.masks or {output: np.ones(len(self.records), np.float32) for output in self.experiment.heads}
        deciding = self.experiment.output
        return masks | {deciding: masks[deciding] * weights}, self._shifted(strata, fitted, by_class)

    def _shifted(self, strata, fitted, by_class):
        prior = np.asarray(self.order.prior)
        if not self.experiment.head.exclusive:  # a label moves by the mean weight of the examples that have it
            having = strata == 1
            return prior * (having * fitted[:, None]).sum(axis=0) / np.maximum(having.sum(axis=0), 1)
        return prior * by_class / (prior * by_class).sum()
