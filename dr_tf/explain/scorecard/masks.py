"""The lesion masks of a record set, which `Records` leaves in its files."""

import itertools

import numpy as np

# Masks of what is no sign of retinopathy, or lies everywhere.
NO_LESIONS = ("optic_disc", "media_haze")


def read_masks(records, rows):
    """{(row, eye): {lesion: bool [size, size]}} of those photographs of these rows that have any."""
    wanted, found = {int(row) for row in rows}, {}
    for (part, first), eye in itertools.product(records.placed(), records.eyes):
        names = part.columns[f"{eye}/image_id" if eye else "image_id"].tolist()
        row_of = {name: first + i for i, name in enumerate(names)}
        for image_id, lesions in _stored(part.directory, eye):
            if lesions and row_of[image_id] in wanted:
                found[row_of[image_id], eye] = lesions
    return dict(sorted(found.items()))


def _stored(directory, eye):
    """(image_id, {lesion: mask}) of each photograph of that eye, without masks that are empty or of no lesion."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    info = tfds.builder_from_directory(directory).info
    features = info.features[eye] if eye else info.features
    if "masks" not in features:
        return
    wanted = {name: features[name] for name in ("image_id", "masks")}
    kept = tfds.features.FeaturesDict({eye: wanted} if eye else wanted)
    files = [str(path) for split in info.splits.values() for path in split.filepaths]
    for fields in tf.data.TFRecordDataset(files).map(kept.deserialize_example).as_numpy_iterator():
        fields = fields[eye] if eye else fields
        named = zip(fields["masks"]["lesion"], fields["masks"]["mask"], strict=True)
        masks = {name.decode(): mask[..., 0] > 0 for name, mask in named if name.decode() not in NO_LESIONS}
        yield fields["image_id"].decode(), {name: mask for name, mask in masks.items() if mask.any()}


def any_lesion(masks):
    return np.logical_or.reduce(list(masks.values()))
