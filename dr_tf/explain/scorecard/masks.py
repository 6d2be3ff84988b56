"""The lesion masks of a record set, which `Records` leaves in its files."""

import numpy as np

from dr_tf.console import UserError

# Masks of what is no sign of retinopathy, or lies everywhere.
NO_LESIONS = ("optic_disc", "media_haze")


def read_masks(records, rows):
    """{row: {lesion: bool [size, size]}} of those rows that have any."""
    if records.paired:
        raise UserError(
            f"{records.name} holds both eyes of a patient in a record; lesion masks are read of single eyes"
        )
    wanted, found = {int(row) for row in rows}, {}
    for part, first in records.placed():
        row_of = {name: first + i for i, name in enumerate(part.columns["image_id"].tolist())}
        for image_id, lesions in _stored(part.directory):
            if lesions and row_of[image_id] in wanted:
                found[row_of[image_id]] = lesions
    return dict(sorted(found.items()))


def _stored(directory):
    """(image_id, {lesion: mask}) of each photograph, without masks that are empty or of no lesion."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    info = tfds.builder_from_directory(directory).info
    if "masks" not in info.features:
        return
    kept = tfds.features.FeaturesDict({name: info.features[name] for name in ("image_id", "masks")})
    files = [str(path) for split in info.splits.values() for path in split.filepaths]
    for fields in tf.data.TFRecordDataset(files).map(kept.deserialize_example).as_numpy_iterator():
        named = zip(fields["masks"]["lesion"], fields["masks"]["mask"], strict=True)
        masks = {name.decode(): mask[..., 0] > 0 for name, mask in named if name.decode() not in NO_LESIONS}
        yield fields["image_id"].decode(), {name: mask for name, mask in masks.items() if mask.any()}


def any_lesion(masks):
    return np.logical_or.reduce(list(masks.values()))
