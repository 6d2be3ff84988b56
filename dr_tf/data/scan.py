"""One pass over a record set's files: its columns, and where each photograph's bytes lie.

TensorFlow reads the records and checks their sums; a record's place follows from the lengths of those before it, so
that photographs can be read later in any order, without parsing anything.
"""

import contextlib
import dataclasses
import hashlib
import pathlib

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
    total = info.splits.total_num_examples
    with progress(total, "opening", "records") if total >= _MANY else contextlib.nullcontext() as bar:
        parts = [_scan_file(number, *file, info.features, bar) for number, file in enumerate(files)]
    columns = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
    return Scan(
        paths=[path for _, path, _ in files],
        columns=columns,
        places={eye: np.concatenate([part[1][eye] for part in parts]) for eye in parts[0][1]},
        image_size=(info.features["left"] if paired else info.features)["image"].shape[0],
        paired=paired,
        fingerprint=hashlib.sha256(b"".join(part[2] for part in parts)).hexdigest(),
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


def _scan_file(number, split, path, length, features, bar):
    """(columns, {eye: [n, (file, first byte, bytes)]}, the sums that the file keeps of its records)."""
    import tensorflow as tf

    batches, at, places, sums = [], 0, [], []
    parse = _parser(features)
    try:
        data = np.memmap(path, np.uint8, "r").view(np.ndarray)
        for serialized, fields in tf.data.TFRecordDataset(path).map(parse).batch(_AT_ONCE).as_numpy_iterator():
            columns = dict(_flat(fields))
            pictures = {name: columns.pop(name) for name in list(columns) if name.split("/")[-1] == "image"}
            for i, record in enumerate(serialized):
                start = at + _HEADER
                places.append([(number, start + record.find(p[i]), len(p[i])) for p in pictures.values()])
                at = start + len(record) + _FOOTER
                sums.append(data[at - _FOOTER : at].tobytes())
            batches.append(columns)
            if bar:
                bar.update(len(serialized))
    except (OSError, ValueError, tf.errors.OpError) as error:
        text = (getattr(error, "message", None) or str(error)).splitlines()[0]
        raise UserError(f"{pathlib.Path(path)} cannot be read: {text}") from None
    if len(places) != length:
        raise UserError(f"{path} holds {len(places)} records, not {length} as dataset_info.json says")
    columns = {name: _text(np.concatenate([batch[name] for batch in batches])) for name in batches[0]}
    columns["split"] = np.full(length, split)
    places = np.array(places).transpose(1, 0, 2)
    return columns, dict(zip(map(_eye, pictures), places, strict=True)), b"".join(sums)


def _parser(features):
    """Serialized -> (serialized, fields): pictures stay bytes, lesion masks (of varying number) are left out."""
    import tensorflow_datasets as tfds

    eyes = [eye for eye in ("left", "right") if eye in features]
    fields = {name: _but_masks(features[name]) if name in eyes else True for name in features if name != "masks"}
    stored = {"image": tfds.decode.SkipDecoding()}
    partial = tfds.decode.PartialDecoding(fields, decoders=dict.fromkeys(eyes, stored) if eyes else stored)
    kept = partial.extract_features(features)
    return lambda serialized: (serialized, kept.deserialize_example(serialized, decoders=partial.decoders))


def _but_masks(features):
    return {name: True for name in features if name != "masks"}


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
