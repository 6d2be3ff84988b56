"""Index of a record set, read in one pass over its TFRecord files: all columns but the images, and where each image is.

TensorFlow reads the records and checks their checksums. The position of a record follows from the lengths of those
before it, so that images can be read later in any order without parsing.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from dr_tf.console import UserError, progress
from dr_tf.safe_names import printable

REQUIRED = ("image", "image_id", "patient_id", "grade", "dme", "any_dr", "labels")

_HEADER, _FOOTER = 12, 4  # bytes of a TFRecord before and after its data
_BATCH = 256  # records parsed at once
_SHOW_PROGRESS_FROM = 20_000  # records: fewer are read before a progress bar would be seen


@dataclasses.dataclass
class RecordIndex:
    """Contents of a record set, except its images.

    Attributes:
        paths: TFRecord files.
        columns: {field: values of all examples}, and "split".
        places: {eye: [n, (file number, first byte, number of bytes)]} of the encoded images; the eye is None for single
            images.
        image_size: side of the images in pixels.
        paired: whether an example holds both eyes of a patient.
        fingerprint: digest of the checksums of all records.
    """

    paths: list[str]
    columns: dict[str, np.ndarray]
    places: dict[str | None, np.ndarray]
    image_size: int
    paired: bool
    fingerprint: str


def read_index(folder: str | os.PathLike, split_order: Sequence[str]) -> RecordIndex:
    """Read the index of a record set.

    Args:
        folder: version folder of a TFDS data set, as tfrecords_builder writes it.
        split_order: order of the splits; further splits follow in alphabetical order.

    Raises:
        UserError: the folder holds no readable records of tfrecords_builder.
    """
    info = _info(folder)
    paired = "left" in info.features and "right" in info.features
    _check_features(info.features, paired, folder)
    splits = sorted(
        info.splits, key=lambda split: (split_order.index(split) if split in split_order else len(split_order), split)
    )
    files = [(split, *file) for split in splits for file in _files(info.splits[split], folder)]
    paths, lengths = [path for _, path, _ in files], [length for *_, length in files]
    columns, places, checksums = _read(paths, lengths, info.features)
    columns["split"] = np.repeat([split for split, *_ in files], lengths)
    return RecordIndex(
        paths=paths,
        columns=columns,
        places=places,
        image_size=(info.features["left"] if paired else info.features)["image"].shape[0],
        paired=paired,
        fingerprint=hashlib.sha256(checksums).hexdigest(),
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


def _check_features(features, paired, folder):
    eyes = [f"{eye}/{field}" for eye in ("left", "right") for field in REQUIRED]
    required = [*eyes, "patient_id", "labels", "left_present", "right_present"] if paired else REQUIRED
    missing = [name for name in required if not _has(features, name)]
    if missing:
        raise UserError(f"{folder} was not written by tfrecords_builder: its records have no {', '.join(missing)}")


def _has(features, name):
    for part in name.split("/"):
        if part not in features:
            return False
        features = features[part]
    return True


def _files(split, folder):
    lengths = [length for length in split.shard_lengths if length]
    paths = [str(path) for path in split.filepaths]
    if len(paths) != len(lengths):
        raise UserError(
            f"{folder}: the split {printable(split.name)} has {len(paths)} files and {len(lengths)} lengths"
        )
    return list(zip(paths, lengths, strict=True))


def _read(paths, lengths, features):
    """(columns, {eye: [n, (file, first byte, bytes)]}, the checksums that the files keep of their records)."""
    import tensorflow as tf

    show_progress = sum(lengths) >= _SHOW_PROGRESS_FROM
    batches = []
    try:
        positions = _RecordPositions(paths)
        dataset = tf.data.TFRecordDataset(paths).map(_parser(features)).batch(_BATCH)
        with progress(sum(lengths), "opening", "records") if show_progress else contextlib.nullcontext() as bar:
            for serialized, fields in dataset.as_numpy_iterator():
                columns = dict(_flat(fields))
                images = {name: columns.pop(name) for name in list(columns) if name.split("/")[-1] == "image"}
                for record in zip(serialized, *images.values(), strict=True):
                    positions.add(*record)
                batches.append(columns)
                if bar:
                    bar.update(len(serialized))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise _unreadable(paths, error) from None
    for path, count, stated in zip(paths, positions.counts, lengths, strict=True):
        if count != stated:
            raise UserError(f"{path} holds {count} records, not {stated} as dataset_info.json says")
    columns = {name: _text(np.concatenate([batch[name] for batch in batches])) for name in batches[0]}
    places = np.array(positions.places).transpose(1, 0, 2)
    return columns, dict(zip(map(_eye, images), places, strict=True)), b"".join(positions.checksums)


class _RecordPositions:
    """Follows the records through the files, one after another."""

    def __init__(self, paths):
        self._data = [np.memmap(path, np.uint8, "r").view(np.ndarray) for path in paths]
        self._file, self._at = 0, 0
        self.counts = [0] * len(paths)
        self.places: list[list[tuple[int, int, int]]] = []
        self.checksums: list[bytes] = []

    def add(self, record, *images):
        if self._at == len(self._data[self._file]):
            self._file, self._at = self._file + 1, 0
        start = self._at + _HEADER
        self.places.append([(self._file, start + record.find(image), len(image)) for image in images])
        self._at = start + len(record) + _FOOTER
        self.checksums.append(self._data[self._file][self._at - _FOOTER : self._at].tobytes())
        self.counts[self._file] += 1


def _unreadable(paths, error):
    """An error with the name of the damaged file, which TensorFlow does not report."""
    import tensorflow as tf

    for path in paths:
        try:
            if not os.path.getsize(path):
                return UserError(f"{path} is empty")
            for _ in tf.data.TFRecordDataset(path):
                pass
        except (OSError, tf.errors.OpError) as damage:
            return UserError(f"{path} cannot be read: {_first_line(damage)}")
    return UserError(f"{pathlib.Path(paths[0]).parent} cannot be read: {_first_line(error)}")


def _first_line(error):
    """The message without what TensorFlow adds about its operations."""
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    return re.sub(r"^\{\{.*?\}\} | \[Op:.*", "", text.splitlines()[0])


def _parser(features):
    """Serialized -> (serialized, fields). Images stay encoded; lesion masks, whose number varies, are left out."""
    import tensorflow_datasets as tfds

    def without_masks(features):
        return {name: features[name] for name in features if name != "masks"}

    eyes = [eye for eye in ("left", "right") if eye in features]
    kept = tfds.features.FeaturesDict(without_masks(features) | {eye: without_masks(features[eye]) for eye in eyes})
    encoded = {"image": tfds.decode.SkipDecoding()}
    decoders = dict.fromkeys(eyes, encoded) if eyes else encoded
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
