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
    row_of = {str(records.columns["image_id"][row]): int(row) for row in rows}
    found = {}
    for image_id, lesions, masks in _stored(records.directory):
        row = row_of.get(image_id.decode())
        kept = zip(lesions, masks, strict=True)
        kept = {name.decode(): mask[..., 0] > 0 for name, mask in kept if name.decode() not in NO_LESIONS}
        kept = {name: mask for name, mask in kept.items() if mask.any()}
        if row is not None and kept:
            found[row] = kept
    return dict(sorted(found.items()))


def _stored(directory):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    info = tfds.builder_from_directory(directory).info
    if "masks" not in info.features:
        return
    kept = tfds.features.FeaturesDict({name: info.features[name] for name in ("image_id", "masks")})
    files = [str(path) for split in info.splits.values() for path in split.filepaths]
    for fields in tf.data.TFRecordDataset(files).map(kept.deserialize_example).as_numpy_iterator():
        yield fields["image_id"], fields["masks"]["lesion"], fields["masks"]["mask"]


def any_lesion(masks):
    return np.logical_or.reduce(list(masks.values()))
