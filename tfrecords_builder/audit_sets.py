"""`python -m tfrecords_builder audit A B …`: do record sets share photographs, or eyes?"""

import collections
import contextlib
import pathlib
import tempfile

import cv2
import numpy as np

from dr_tf.console import UserError, progress
from tfrecords_builder.audit import COLUMNS, conflict, describe
from tfrecords_builder.copy_search import Traces
from tfrecords_builder.descriptors import trace
from tfrecords_builder.tables import write_csv
from tfrecords_builder.workers import map_in_order

SET_COLUMNS = ("set_a", "set_b", *COLUMNS[:-1])


def audit_sets(folders, output, *, workers, starting=contextlib.nullcontext):
    """Writes every pair across the sets to `output`; returns the lines to print.

    `starting()` is around the first import of TensorFlow.
    """
    names = _names(folders)
    samples = {}
    with tempfile.TemporaryDirectory() as folder, Traces(pathlib.Path(folder) / "views") as traces:
        for key, sample, found in _traced(names, workers, starting):
            samples[key] = sample
            traces.append(key, found, set_of=key[0])
        pairs = traces.pairs(workers=workers, across_sets=True)
    rows = [(p.a[0], p.b[0], *_described(p, samples)) for p in pairs]
    write_csv(output, SET_COLUMNS, rows)
    return _summary(pairs, samples, output)


def _names(folders):
    if len(folders) < 2:
        raise UserError("audit compares record sets: name at least two folders RECORDS/NAME/CONFIG/VERSION")
    paths = [pathlib.Path(folder).resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise UserError("audit: a record set is named twice")
    for path in paths:
        if not (path / "dataset_info.json").is_file():
            raise UserError(f"{path} is no record set: name a folder RECORDS/NAME/CONFIG/VERSION")
    names = ["/".join(path.parts[-3:]) for path in paths]
    return {str(path) if names.count(name) > 1 else name: path for name, path in zip(names, paths, strict=True)}


def _traced(names, workers, starting):
    with starting():
        from tfrecords_builder.read_records import read_stored, start

        start()

    keys = []

    def photographs():
        for name, path in names.items():
            for stored in read_stored(path):
                keys.append(((name, stored.sample.image_id), stored.sample))
                yield stored.jpeg, stored.geometry, stored.sha256

    with progress(None, "reading", "photographs") as bar:
        for i, found in enumerate(map_in_order(_trace, photographs(), workers=workers, on_death=lambda item: None)):
            bar.update()
            if found is not None:
                yield *keys[i], found


def _trace(item):
    jpeg, geometry, sha256 = item
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if image is None else trace(image, geometry, sha256)


def _described(pair, samples):
    _, _, *rest = describe(pair, samples[pair.a], samples[pair.b])
    return (pair.a[1], pair.b[1], *rest)


def _summary(pairs, samples, output):
    sets = collections.Counter(name for name, _ in samples)
    yield "photographs: " + ", ".join(f"{count} in {name}" for name, count in sets.items())
    kinds = collections.Counter((p.a[0], p.b[0], p.kind) for p in pairs)
    for (a, b, kind), count in sorted(kinds.items()):
        yield f"{a} and {b}: {count} pairs: {_KINDS[kind]}"
    copies = [p for p in pairs if p.kind != "same_eye"]
    if differing := sum(bool(conflict(samples[p.a], samples[p.b])) for p in copies):
        yield f"{differing} of the copies have different labels"
    yield f"{len(pairs)} pairs in {output}" if pairs else f"nothing is shared; {output} is empty but for its header"


_KINDS = {"exact": "exact copies", "copy": "near copies", "same_eye": "likely of one eye"}
