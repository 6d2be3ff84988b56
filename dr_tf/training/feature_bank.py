"""A frozen backbone need not see a photograph once per epoch: each view goes through it once, and the head trains on that."""

import dataclasses
import hashlib
import pathlib
import warnings

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from dr_tf.console import UserError, progress
from dr_tf.data.augmented_views import Views
from dr_tf.data.batches import view_batches
from dr_tf.data.features import Features, ordered_features, training_features
from dr_tf.models.network import is_paired
from dr_tf.models.stages import features_of_eyes, frozen_end

_BATCH = 32


@dataclasses.dataclass(frozen=True)
class FeatureBank:
    """Each photograph is shown as it is and in `views` augmented ways, the same in every epoch; of a pair, each eye.

    The features are kept in `directory`, beside the records where that is None, and found again by whatever asks for the
    same. `stored` False runs every view through the whole network whenever it comes up: the slow way, to compare with.
    """

    views: int = 0
    stored: bool = True
    directory: str | None = None

    def __post_init__(self):
        if self.views < 0:
            raise UserError(f"feature_bank.views counts augmented views; it is not {self.views}")


def cut(model, data):
    """(what is to be trained, what feeds it): all of it and photographs, or what follows the frozen part and a bank."""
    bank = data.experiment.feature_bank
    return (model, data) if bank is None or not bank.stored else _cut(model, data, bank)


def _cut(model, data, bank):
    photograph, features, rest = _cut_of_eyes(model) if is_paired(model) else _cut_of_one(model)
    if tf.distribute.has_strategy():
        raise UserError("a feature bank is for one device")
    frozen = keras.Model(photograph, features, name="frozen")
    with warnings.catch_warnings():
        # What comes out of a layer is called by a number, and Keras would have it called "left", as its key is.
        warnings.filterwarnings("ignore", "When providing `inputs` as a dict")
        return keras.Model(rest, model.output, name=model.name), StoredFeatureData(data, frozen, bank)


def _cut_of_one(model):
    """(what goes into the frozen part, what comes out of it, what goes into the rest)."""
    end = frozen_end(model)
    if end is None:
        raise UserError(
            "a feature bank keeps what a frozen backbone says: set backbone.trainable_from to 'none' or a stage"
        )
    return model.input, end, end


def _cut_of_eyes(model):
    """The same of both eyes: what is frozen takes one of them."""
    shared, features = features_of_eyes(model)
    if shared.trainable_variables:
        raise UserError(
            "a feature bank of both eyes keeps what a wholly frozen backbone says: set backbone.trainable_from to 'none'"
        )
    return shared.input, shared.output, model.input | features


class StoredFeatureData:
    """A TrainingData of the features of its photographs."""

    def __init__(self, data, frozen, bank):
        self.experiment, self.records, self.roles, self.order = data.experiment, data.records, data.roles, data.order
        self.names, self.sample = data.names, data.sample
        self._feed, self._frozen, self._views = data, frozen, Views(bank.views)
        directory = bank.directory or pathlib.Path(data.records.directory) / "features"
        shape = frozen.output.shape[1:]
        key = _key(frozen, data, changed=bank.views > 0)
        present = {eye: data.records.present(eye) for eye in data.records.eyes if eye}
        self._features = Features(len(data.records), bank.views, shape, directory=directory, key=key, present=present)

    def fill(self):
        """Computes what is not there yet."""
        rows, numbers = self._wanted()
        missing = self._features.missing(rows, numbers)
        logging.info("feature bank: %d of %d views are there", len(rows) - missing.sum(), len(rows))
        if missing.any():
            self._compute(rows[missing], numbers[missing])

    def training(self, first_epoch=0):
        data = self._feed
        return training_features(
            self._features, data.targets, rows=self.roles.fit, order=self.order, views=self._views,
            first_epoch=first_epoch, epochs=self.experiment.epochs, weights=data.weights,
        )  # fmt: skip

    def ordered(self, rows):
        size, data = self.experiment.validation_batch_size, self._feed
        return ordered_features(self._features, data.targets, rows=rows, batch_size=size, weights=data.masks)

    def _wanted(self):
        """(rows, numbers of the views): every view of what is fitted, and what is selected by as it is."""
        fit, select, each = self.roles.fit, self.roles.select, self._views.changed + 1
        rows, numbers = np.concatenate([np.repeat(fit, each), select]), np.tile(np.arange(each), len(fit))
        return rows, np.concatenate([numbers, np.zeros(len(select), int)])

    def _compute(self, rows, numbers):
        run = tf.function(lambda x: self._frozen(x, training=False), reduce_retracing=True)
        batches = view_batches(
            self._feed.photographs, rows=rows, numbers=numbers, views=self._views, seed=self.experiment.seed,
            augmentation=self.experiment.augmentation, batch_size=_BATCH,
        )  # fmt: skip
        numbers = iter(numbers.tolist())
        with progress(len(rows), "feature bank", "views") as bar:
            for x, batch in batches:
                said = {eye: run(x if eye is None else x[eye]).numpy() for eye in self._features.eyes}
                for i, row in enumerate(batch.numpy().tolist()):
                    number = next(numbers)
                    for eye, values in said.items():
                        self._features.put(row, number, values[i], eye)
                bar.update(len(batch))


def _key(frozen, data, changed):
    """Everything that features follow from; how photographs are changed counts only where they are."""
    digest = hashlib.sha256(frozen.to_json().encode())
    for variable in frozen.variables:
        digest.update(np.ascontiguousarray(variable.numpy()))
    changes = (repr(data.experiment.augmentation), data.experiment.seed) if changed else None
    versions = tf.__version__, keras.__version__
    return digest.hexdigest(), data.records.fingerprint, data.photographs.image_size, changes, versions
