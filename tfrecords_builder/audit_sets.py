"""`python -m tfrecords_builder audit A B …`: find images and eyes that record sets have in common."""

import collections
import contextlib
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from dr_tf.buckets.urls import is_url
from dr_tf.console import UserError, cleaned_up_if_stopped, progress
from dr_tf.data.bucket_records import copy_version
from tfrecords_builder.audit import COLUMNS, conflicting_labels, pair_columns
from tfrecords_builder.copy_search import SignatureIndex
from tfrecords_builder.descriptors import compute_signature
from tfrecords_builder.samples import Sample
from tfrecords_builder.tables import write_csv
from tfrecords_builder.workers import map_in_order

SET_COLUMNS = ("set_a", "set_b", *COLUMNS[:-1])
_KINDS = {"exact": "exact copies", "copy": "near copies", "same_eye": "probably show the same eye"}


def audit_sets(
    folders: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    workers: int,
    starting: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> Iterator[str]:
    """Compare record sets, and write every pair of images across them to a csv file.

    Args:
        folders: Record sets, each a folder RECORDS/NAME/CONFIG/VERSION or its URL.
        output: The csv file, with the columns SET_COLUMNS.
        workers: Number of worker processes.
        starting: Returns the context manager in which TensorFlow is imported for the first time.

    Returns:
        The lines of a summary. The last one names the csv file.

    Raises:
        UserError: A folder is not a record set, or fewer than two are given.
    """
    set_paths = _set_paths(folders)
    samples = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        cleaned_up_if_stopped(functools.partial(shutil.rmtree, folder, ignore_errors=True)),
        SignatureIndex(pathlib.Path(folder) / "views") as index,
    ):
        for key, sample, signature in _signatures(set_paths, workers, starting):
            samples[key] = sample
            index.add(key, signature, set_name=key[0])
        pairs = index.find_pairs(workers=workers, across_sets=True)
    rows = [(p.a[0], p.b[0], *_columns(p, samples)) for p in pairs]
    write_csv(pathlib.Path(output), SET_COLUMNS, rows)
    return _summary(pairs, samples, output)


def _set_paths(folders):
    """{name of a record set: its path}. The name is NAME/CONFIG/VERSION, or the whole path where names repeat."""
    if len(folders) < 2:
        raise UserError("audit compares record sets: name at least two folders RECORDS/NAME/CONFIG/VERSION")
    paths = [copy_version(folder) if is_url(folder) else pathlib.Path(folder).resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise UserError("audit: a record set is named twice")
    for path in paths:
        if not (path / "dataset_info.json").is_file():
            raise UserError(f"{path} is not a record set: name a folder RECORDS/NAME/CONFIG/VERSION")
    names = ["/".join(path.parts[-3:]) for path in paths]
    return {str(path) if names.count(name) > 1 else name: path for name, path in zip(names, paths, strict=True)}


def _signatures(set_paths, workers, starting):
    """Yield ((record set, image_id), sample, signature) of every image that can be decoded."""
    with starting():
        import tensorflow as tf

        from dr_tf.data.records import open_folder

        tf.config.list_physical_devices()  # now, as the caller hides what TensorFlow prints about devices

    keys_and_samples = []

    def images():
        for name, path in set_paths.items():
            records = open_folder(path)
            for row in range(len(records)):
                for eye in records.eyes:
                    if records.present(eye)[row]:
                        sample, sha256 = _sample(records.columns, row, eye)
                        keys_and_samples.append(((name, sample.image_id), sample))
                        yield records.encoded_image(row, eye), records.geometry(row, eye), sha256

    with progress(None, "reading", "images") as bar:
        signatures = map_in_order(_signature, images(), workers=workers, on_crash=lambda item: None)
        for i, signature in enumerate(signatures):
            bar.update()
            if signature is not None:
                yield *keys_and_samples[i], signature


def _sample(columns, row, eye):
    """(sample, SHA-256 of the original file) of an image in a record set."""
    prefix = f"{eye}/" if eye else ""
    labels = {name: int(columns[prefix + name][row]) for name in ("grade", "dme", "any_dr")}
    sample = Sample(str(columns[f"{prefix}image_id"][row]), path=None, split=str(columns["split"][row]), **labels)
    return sample, str(columns[f"{prefix}sha256"][row])


def _signature(item):
    jpeg, geometry, sha256 = item
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if image is None else compute_signature(image, geometry, sha256)


def _columns(pair, samples):
    _, _, *rest = pair_columns(pair, samples[pair.a], samples[pair.b])
    return (pair.a[1], pair.b[1], *rest)


def _summary(pairs, samples, output):
    sizes = collections.Counter(name for name, _ in samples)
    yield "images: " + ", ".join(f"{count} in {name}" for name, count in sizes.items())
    kinds = collections.Counter((p.a[0], p.b[0], p.kind) for p in pairs)
    for (a, b, kind), count in sorted(kinds.items()):
        yield f"{a} and {b}: {count} pairs: {_KINDS[kind]}"
    copies = [p for p in pairs if p.kind != "same_eye"]
    if differing := sum(bool(conflicting_labels(samples[p.a], samples[p.b])) for p in copies):
        yield f"{differing} pairs of copies have different labels"
    yield f"{len(pairs)} pairs in {output}" if pairs else f"no image or eye is shared; {output} has a header only"
