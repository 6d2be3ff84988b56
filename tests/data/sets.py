"""Record sets for tests in the schema of tfrecords_builder: plain images whose red channel encodes their number."""

import contextlib
import functools
import io
import pathlib
import tempfile

import numpy as np

from dr_tf.fundus.prepare import encode_jpeg
from dr_tf.grades import ABSENT, ODIR_LABELS

SIZE = 32


def red_of(number):
    return 40 + 7 * number % 210


def photograph(number, size=SIZE):
    """A disc on black whose red channel encodes the number."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    image = np.zeros((size, size, 3), np.uint8)
    image[np.hypot(x, y) < 0.985 * size / 2] = (red_of(number), 100, 60)
    image[size // 4 : size // 2, size // 4 : size // 2] = (220, 180, 90)  # so that a flip shows
    return image


def eye_fields(number, *, side="", size=SIZE, image=None, **fields):
    return {
        "image": encode_jpeg(photograph(number, size) if image is None else image),
        "image_id": f"p{number:03}{side}",
        "patient_id": f"p{number:03}",
        "patient_known": True,
        "eye": side,
        "source": "drawn",
        "camera": "",
        "age": ABSENT,
        "sex": "",
        "grade": number % 5,
        "dme": ABSENT,
        "any_dr": int(number % 5 > 0),
        "labels": np.full(len(ODIR_LABELS), ABSENT, np.int32),
        "keywords": "",
        "circle": np.full(3, size / 2, np.float32),
        "crop": np.array((0, 0, size, size), np.int32),
        "padding": np.zeros(4, np.int32),
        "original_size": np.full(2, size, np.int32),
        "gradability": dict.fromkeys(("score", "sharpness", "exposure", "contrast", "field"), number / 100),
        "sha256": "",
        "test_copy": "",
        "masks": [],
    } | fields


def pair_fields(number, *, absent=None, size=SIZE):
    black = {"image": np.zeros((size, size, 3), np.uint8), "image_id": "", "grade": ABSENT, "source": ""}
    eyes = {
        side: eye_fields(2 * number + i, side=side, size=size, **(black if side == absent else {}))
        for i, side in enumerate(("left", "right"))
    }
    labels = np.array([(number >> bit) & 1 for bit in range(len(ODIR_LABELS))], np.int32)
    patient = {"patient_id": f"p{number:03}", "age": 50 + number, "sex": "female", "labels": labels}
    return patient | {f"{side}_present": side != absent for side in eyes} | eyes


def write_set(root, splits, *, name="drawn", config="plain", paired=False, size=SIZE, features=None, folds=()):
    """Write a record set with TFDS. `splits` maps a split to its examples; `folds` are lines of folds.csv."""
    import tensorflow_datasets as tfds

    from tfrecords_builder.records import pair_features, record_features

    schema = features or (pair_features if paired else record_features)(size)

    class Drawn(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=schema)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            yield from enumerate(splits[split])

    Drawn.name = name
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        builder = Drawn(config=tfds.core.BuilderConfig(name=config, version="1.0.0"), data_dir=str(root))
        builder.download_and_prepare()
    folder = pathlib.Path(builder.data_path)
    if folds:
        lines = [",".join(map(str, line)) for line in [("image_id", "patient_id", "grade", "fold"), *folds]]
        (folder / "folds.csv").write_text("\n".join(lines) + "\n")
    return folder


def scratch(test):
    """A temporary folder that is removed after the test."""
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    return folder.name


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory()  # lives as long as the tests


@functools.cache
def drawn_root():
    """drawn/plain: 20 training, 5 validation and 5 test examples, 2 folds; paired/plain: 12 patients, two with one eye."""
    root = pathlib.Path(_folder().name)
    splits = {"test": range(25, 30), "train": range(20), "validation": range(20, 25)}
    folds = [(f"p{i:03}", f"p{i:03}", i % 5, i % 2) for i in range(25)]
    write_set(root, {split: [eye_fields(i) for i in numbers] for split, numbers in splits.items()}, folds=folds)
    absent = {3: "left", 7: "right"}
    pairs = [pair_fields(i, absent=absent.get(i)) for i in range(12)]
    folds = [(f"p{i:03}{side}", f"p{i:03}", 0, i % 3) for i in range(12) for side in ("left", "right")]
    write_set(root, {"train": pairs}, name="paired", paired=True, folds=folds)
    return root
