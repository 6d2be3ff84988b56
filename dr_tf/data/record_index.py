"""One pass over a record set's files: its columns, and where each photograph's bytes lie.

TensorFlow reads the records and checks their sums; a record's place follows from the lengths of those before it, so
that photographs can be read later in any order, without parsing anything.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re

import numpy as np

from dr_tf.console import UserError, progress

REQUIRED = ("image", "image_id", "patient_id", "grade", "dme", "any_dr", "labels")

_HEADER, _FOOTER = 12, 4  # bytes of a TFRecord before and after its data
_AT_ONCE = 256
_MANY = 20_000  # records: below it a bar would be gone before it is seen


@dataclasses.dataclass
class Scan:
    paths: list[str]
    columns: dict[str, np.ndarray]
    places: dict
    image_size: int
    paired: bool
    fingerprint: str


def scan(folder, order):
    """Everything of `folder` but the pictures, splits in `order` and others after them."""
    info = _info(folder)
    paired = "left" in info.features and "right" in info.features
    _check(info.features, paired, folder)
    splits = sorted(info.splits, key=lambda split: (order.index(split) if split in order else len(order), split))
    files = [(split, *file) for split in splits for file in _files(info.splits[split])]
    paths, lengths = [path for _, path, _ in files], [length for *_, length in files]
    columns, places, sums = _read(paths, lengths, info.features)
    columns["split"] = np.repeat([split for split, *_ in files], lengths)
    return Scan(
        paths=paths,
        columns=columns,
        places=places,
        image_size=(info.features["left"] if paired else info.features)["image"].shape[0],
        paired=paired,
        fingerprint=hashlib.sha256(sums).hexdigest(),
    )


def _info(folder):
    import tensorflow_datasets as tfds

    try:
        info = tfds.builder_from_directory(str(folder)).info
    except Exception as error:  # TFDS lets through whatever its parsers of json and of protos raise
        raise UserError(f"{folder} cannot be read as a record set: {str(error).splitlines()[0]}") from error
    if not info.splits or not info.splits.total_num_examples:
        raise UserError(f"{folder} holds no records")
    return info


def _check(features, paired, folder):
    eyes = [f"{eye}/{field}" for eye in ("left", "right") for field in REQUIRED]
    wanted = [*eyes, "patient_id", "labels", "left_present", "right_present"] if paired else REQUIRED
    lacking = [name for name in wanted if not _has(features, name)]
    if lacking:
        raise UserError(f"{folder} was not written by tfrecords_builder: its records have no {', '.join(lacking)}")


def _has(features, name):
    for part in name.split("/"):
        if part not in features:
            return False
        features = features[part]
    return True


def _files(split):
    lengths = [length for length in split.shard_lengths if length]
    return list(zip((str(path) for path in split.filepaths), lengths, strict=True))


def _read(paths, lengths, features):
    """(columns, {eye: [n, (file, first byte, bytes)]}, the sums that the files keep of their records)."""
    import tensorflow as tf

    many = sum(lengths) >= _MANY
    batches = []
    try:
        walk = _Walk(paths)
        dataset = tf.data.TFRecordDataset(paths).map(_parser(features)).batch(_AT_ONCE)
        with progress(sum(lengths), "opening", "records") if many else contextlib.nullcontext() as bar:
            for serialized, fields in dataset.as_numpy_iterator():
                columns = dict(_flat(fields))
                pictures = {name: columns.pop(name) for name in list(columns) if name.split("/")[-1] == "image"}
                for record in zip(serialized, *pictures.values(), strict=True):
                    walk.step(*record)
                batches.append(columns)
                if bar:
                    bar.update(len(serialized))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise _unreadable(paths, error) from None
    for path, found, stated in zip(paths, walk.counts, lengths, strict=True):
        if found != stated:
            raise UserError(f"{path} holds {found} records, not {stated} as dataset_info.json says")
    columns = {name: _text(np.concatenate([batch[name] for batch in batches])) for name in batches[0]}
    places = np.array(walk.places).transpose(1, 0, 2)
    return columns, dict(zip(map(_eye, pictures), places, strict=True)), b"".join(walk.sums)


class _Walk:
    """Where one record after another lies in the files."""

    def __init__(self, paths):
        self._data = [np.memmap(path, np.uint8, "r").view(np.ndarray) for path in paths]
        self._file, self._at = 0, 0
        self.counts, self.places, self.sums = [0] * len(paths), [], []

    def step(self, record, *pictures):
        if self._at == len(self._data[self._file]):
            self._file, self._at = self._file + 1, 0
        start = self._at + _HEADER
        self.places.append([(self._file, start + record.find(picture), len(picture)) for picture in pictures])
        self._at = start + len(record) + _FOOTER
        self.sums.append(self._data[self._file][self._at - _FOOTER : self._at].tobytes())
        self.counts[self._file] += 1


def _unreadable(paths, error):
    """TensorFlow does not say in which of the files it found the damage."""
    import tensorflow as tf

    for path in paths:
        try:
            if not os.path.getsize(path):
                return UserError(f"{path} is empty")
            for _ in tf.data.TFRecordDataset(path):
                pass
        except (OSError, tf.errors.OpError) as found:
            return UserError(f"{path} cannot be read: {_line(found)}")
    return UserError(f"{pathlib.Path(paths[0]).parent} cannot be read: {_line(error)}")


def _line(error):
    """Without what TensorFlow adds of its operations."""
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    return re.sub(r"^\{\{.*?\}\} | \[Op:.*", "", text.splitlines()[0])


def _parser(features):
    """Serialized -> (serialized, fields): pictures stay bytes, lesion masks (of varying number) are left out."""
    import tensorflow_datasets as tfds

    def but_masks(features):
        return {name: features[name] for name in features if name != "masks"}

    eyes = [eye for eye in ("left", "right") if eye in features]
    kept = tfds.features.FeaturesDict(but_masks(features) | {eye: but_masks(features[eye]) for eye in eyes})
    stored = {"image": tfds.decode.SkipDecoding()}
    decoders = dict.fromkeys(eyes, stored) if eyes else stored
    return lambda serialized: (serialized, kept.deserialize_example(serialized, decoders=decoders))


def _flat(fields, prefix=""):
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _eye(name):
    return name.split("/")[0] if "/" in name else None


def _text(values):
    return np.array([value.decode() for value in values], str) if values.dtype == object else values
