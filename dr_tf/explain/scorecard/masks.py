"""Read the lesion masks of a record set, which `Records` leaves in its files."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from dr_tf.explain.scorecard.record_images import ImageRecords

# Masks that are no sign of retinopathy, or cover everything.
NO_LESIONS = ("optic_disc", "media_haze")


def read_masks(
    records: ImageRecords, rows: Iterable[int] | np.ndarray
) -> dict[tuple[int, str | None], dict[str, np.ndarray]]:
    """Read the lesion masks of some examples.

    Args:
        records: The record set.
        rows: Row numbers of the examples.

    Returns:
        {(row, eye): {lesion: bool [size, size]}} of the images that have any lesion mask. The eye is None for single
        images.
    """
    wanted = {int(row) for row in rows}
    return dict(sorted((key, lesions) for key, lesions in _masks(records) if key[0] in wanted))


def rows_with_masks(records: ImageRecords, rows: Iterable[int] | np.ndarray) -> set[int]:
    """Return which of the rows have a lesion mask, holding one image's masks in memory at a time."""
    return {row for (row, _), _ in _masks(records)} & {int(row) for row in rows}


def _masks(records):
    """Yield ((row, eye), {lesion: mask}) of each image that has any lesion mask."""
    for (part, first), eye in itertools.product(records.parts_with_first_row(), records.eyes):
        names = part.columns[f"{eye}/image_id" if eye else "image_id"].tolist()
        row_of = {name: first + i for i, name in enumerate(names)}
        for image_id, lesions in _masks_in_files(part.directory, eye):
            if lesions:
                yield (row_of[image_id], eye), lesions


def _masks_in_files(directory, eye):
    """Yield (image_id, {lesion: mask}) of each image of that eye, without empty masks and NO_LESIONS."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    info = tfds.builder_from_directory(directory).info
    features = info.features[eye] if eye else info.features
    if "masks" not in features:
        return
    wanted = {name: features[name] for name in ("image_id", "masks")}
    parsed = tfds.features.FeaturesDict({eye: wanted} if eye else wanted)
    files = [str(path) for split in info.splits.values() for path in split.filepaths]
    for fields in tf.data.TFRecordDataset(files).map(parsed.deserialize_example).as_numpy_iterator():
        fields = fields[eye] if eye else fields
        named = zip(fields["masks"]["lesion"], fields["masks"]["mask"], strict=True)
        masks = {name.decode(): mask[..., 0] > 0 for name, mask in named if name.decode() not in NO_LESIONS}
        yield fields["image_id"].decode(), {name: mask for name, mask in masks.items() if mask.any()}


def any_lesion(masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Combine {lesion: mask} to the mask of all lesions."""
    return np.logical_or.reduce(list(masks.values()))
