"""Feature bank: a cache of a frozen backbone's features, so that each view of an image goes through the backbone once.

The layers after the frozen part are then trained on the cached features: the pooled vector of a classifier, or the maps
of all strides that a decoder takes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from dr_tf.console import UserError, progress
from dr_tf.data.augmented_views import AugmentedViews
from dr_tf.data.batches import view_batches
from dr_tf.data.features import FeatureStore, ordered_feature_batches, training_feature_batches
from dr_tf.models.network import is_paired
from dr_tf.models.stages import eye_features, frozen_outputs
from dr_tf.parameters import Natural

if TYPE_CHECKING:
    from dr_tf.training.data_roles import Roles
    from dr_tf.training.experiment import Experiment
    from dr_tf.training.training_data import TrainingData

_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class FeatureBank:
    """Settings of the feature bank. A config sets its attributes as `feature_bank.NAME`.

    Attributes:
        views: augmented views of each image, the same in every epoch, besides the unchanged image. Each eye of a pair has
            its own views.
        stored: whether features are cached. False runs every view through the whole network each time, for comparison.
        directory: folder of the cache; beside the records by default. A later run with the same frozen network, images
            and views uses it again.
    """

    views: Natural = 0
    stored: bool = True
    directory: str | None = None


def split_at_frozen_part(
    model: keras.Model, data: TrainingData, *, experiment: Experiment, roles: Roles
) -> tuple[keras.Model, TrainingData | StoredFeatureData]:
    """Split a model at the end of its frozen part, if the experiment has a feature bank.

    Args:
        model: the whole model.
        data: batches of images for it.
        experiment: the experiment.
        roles: which examples are for training and which select the epoch.

    Returns:
        (the layers after the frozen part as a model, batches of features for it). Without a feature bank the model and
        the data themselves.

    Raises:
        UserError: the model has no frozen part, or the training uses several devices.
    """
    bank = experiment.feature_bank
    if bank is None or not bank.stored:
        return model, data
    frozen, rest_input = _split_paired(model) if is_paired(model) else _split_single(model)
    if tf.distribute.has_strategy():
        raise UserError("train.feature_bank needs train.distribution = 'one_device'")
    with without_warning_of_names():
        rest = keras.Model(rest_input, model.output, name=model.name)
    return rest, StoredFeatureData(data, frozen, experiment=experiment, roles=roles)


@contextlib.contextmanager
def without_warning_of_names() -> Iterator[None]:
    """Silence a warning of Keras: it expects tensors named like their keys, such as "left", not after their layers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When providing `inputs` as a dict")
        yield


def _split_single(model):
    """({None: frozen part}, inputs of the rest)."""
    features = frozen_outputs(model)
    if not features:
        raise UserError("train.feature_bank needs a frozen backbone: set backbone.trainable_from to 'none' or a stage")
    return {None: keras.Model(model.input, features, name="frozen")}, features if len(features) > 1 else features[0]


def _split_paired(model):
    """({eye: frozen part from the image of that eye}, inputs of the rest)."""
    backbones, features = eye_features(model)
    if any(backbone.trainable_variables for backbone in backbones):
        raise UserError(
            "train.feature_bank of a paired model needs a completely frozen backbone: set backbone.trainable_from to 'none'"
        )
    frozen = {eye: keras.Model(model.input[eye], [output], name="frozen") for eye, output in features.items()}
    return frozen, model.input | features


class StoredFeatureData:
    """Batches of cached features in place of images, with the interface of `TrainingData`.

    Args:
        data: batches of the images.
        frozen: {eye: frozen part of the model, images of that eye -> list of features}; the eye of single images is None.
        experiment: the experiment, which has a feature bank.
        roles: which examples are for training and which select the epoch.
    """

    def __init__(
        self, data: TrainingData, frozen: dict[str | None, keras.Model], *, experiment: Experiment, roles: Roles
    ) -> None:
        assert experiment.feature_bank
        bank, records = experiment.feature_bank, data.images.records
        self.order = data.order
        self._data, self._frozen, self._experiment, self._roles = data, frozen, experiment, roles
        self._views = AugmentedViews(bank.views)
        self._directory = bank.directory or pathlib.Path(records.directory) / "features"
        self._features = FeatureStore(
            len(records),
            bank.views,
            [features.shape[1:] for features in next(iter(frozen.values())).outputs],
            directory=self._directory,
            key=_key(frozen, data, experiment),
            eyes=records.eyes,
        )

    def fill(self) -> None:
        """Compute the features that are not cached yet.

        Raises:
            UserError: the disk has too little space, or a feature is out of the range of float16.
        """
        rows, numbers = self._required_views()
        is_missing = self._features.missing(rows, numbers)
        rows, numbers = rows[is_missing], numbers[is_missing]
        logging.info("feature bank: %d of %d views are cached", (~is_missing).sum(), len(is_missing))
        if len(rows):
            images = len(rows) * len(self._features.eyes)
            logging.info(
                "feature bank: writing %.2f GB to %s, %.2f MB for each of %d images",
                images * self._features.view_bytes / 1e9,
                self._directory,
                self._features.view_bytes / 1e6,
                images,
            )
            self._features.reserve(rows, numbers)
            self._compute(rows, numbers)

    def training_batches(self, first_epoch: int = 0, *, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """Return the training batches from `first_epoch` on as one dataset, as `TrainingData.training_batches` does."""
        return training_feature_batches(
            self._features,
            self._data.targets,
            rows=self._data.rows,
            order=self.order,
            views=self._views,
            first_epoch=first_epoch,
            epochs=self._experiment.epochs,
            seed=self._experiment.seed,
            weights=self._data.weights,
            patient=self._data.images.patient,
            shard=shard,
        )

    def ordered_batches(self, rows: np.ndarray) -> tf.data.Dataset:
        """Return each of these rows once, in order and without augmentation."""
        return ordered_feature_batches(
            self._features,
            self._data.targets,
            rows=rows,
            batch_size=self._experiment.validation_batch_size,
            weights=self._data.label_masks,
            patient=self._data.images.patient,
        )

    def sample_images(self) -> np.ndarray:
        """Return the images of the first batch, as `TrainingData.sample_images` does."""
        return self._data.sample_images()

    def batch_names(self, epoch: int, step: int) -> list[str]:
        """Return the names of the examples of a training batch, as `TrainingData.batch_names` does."""
        return self._data.batch_names(epoch, step)

    def _required_views(self):
        """(rows, view numbers): every view of the training examples, and the unchanged image of those that select."""
        fit, select, views = self._data.rows, self._roles.select, self._views.augmented + 1
        rows = np.concatenate([np.repeat(fit, views), select])
        numbers = np.concatenate([np.tile(np.arange(views), len(fit)), np.zeros(len(select), int)])
        return rows, numbers

    def _compute(self, rows, numbers):
        run = {eye: _flat_function(frozen) for eye, frozen in self._frozen.items()}
        batches = view_batches(
            self._data.images,
            rows=rows,
            numbers=numbers,
            views=self._views,
            seed=self._experiment.seed,
            augmentation=self._experiment.augmentation,
            batch_size=_BATCH_SIZE,
        )
        remaining_numbers = iter(numbers.tolist())
        with progress(len(rows), "feature bank", "views") as bar:
            for x, batch_rows in batches:
                features = {eye: run[eye](x if eye is None else x[eye]).numpy() for eye in self._features.eyes}
                for i, row in enumerate(batch_rows.numpy().tolist()):
                    number = next(remaining_numbers)
                    for eye, values in features.items():
                        self._features.put(row, number, values[i], eye)
                bar.update(len(batch_rows))


def _flat_function(frozen):
    """A traced function from images to one float16 vector each, [n, size], of one array after the other."""

    def flat(x):
        features = tf.nest.flatten(frozen(x, training=False))  # Keras returns a list of one tensor as that tensor
        return tf.concat([tf.reshape(tf.cast(part, tf.float16), (tf.shape(part)[0], -1)) for part in features], axis=1)

    return tf.function(flat, reduce_retracing=True)


def _key(frozen, data, experiment):
    """Everything that the features depend on; the augmentation only if there are augmented views."""
    digest = hashlib.sha256()
    for part in frozen.values():
        digest.update(part.to_json().encode())
        for variable in part.variables:
            digest.update(np.ascontiguousarray(variable.numpy()))
    augmentation = (repr(experiment.augmentation), experiment.seed) if experiment.feature_bank.views else None
    versions = tf.__version__, keras.__version__
    return digest.hexdigest(), data.images.records.fingerprint, data.images.image_size, augmentation, versions
