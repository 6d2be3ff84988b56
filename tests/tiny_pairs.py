"""A small record set of patients with two eyes and eight labels, and a run on it: built once for all tests that need one."""

import atexit
import contextlib
import functools
import io
import pathlib
import shutil
import tempfile

from dr_tf.grades import ODIR_LABELS
from tests.tfrecords_builder.trees import jpeg, photograph, run_builder, write, write_table

DATASET = "odir/64-plain-q95-paired"
PATIENTS = 96
ONE_EYED = (5, 17, 30, 61)  # of these there is no right eye
CONFIG = f"""
train.dataset = '{DATASET}'
train.heads = {{'labels': @multi_label()}}
train.model = @paired_classifier
train.sampling = @weighted()
train.class_weights = 'balanced'
train.epochs = 2
train.batch_size = 8
train.modes = ('tta2', 'knn')
paired_classifier.backbone = @backbone()
backbone.name = 'resnet_v2'
backbone.image_size = 64
backbone.stem = 4
backbone.filters = (4, 8)
"""
_COLUMNS = (
    "ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords",
    "Right-Diagnostic Keywords", *ODIR_LABELS, "filename",
)  # fmt: skip


@functools.cache
def records_root():
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rows = []
    for patient in range(PATIENTS):
        eyes = ["left"] if patient in ONE_EYED else ["left", "right"]
        sick = patient % len(ODIR_LABELS)
        labels = [int(i == sick) for i in range(len(ODIR_LABELS))]
        keywords = "moderate non proliferative retinopathy" if sick == 1 else "normal fundus"
        for i, eye in enumerate(eyes):
            write(
                folder / "photographs/preprocessed_images" / f"{patient}_{eye}.jpg", jpeg(photograph(2 * patient + i))
            )
            names = [f"{patient}_{side}.jpg" for side in ("left", "right")]
            rows.append([patient, 50, "Female", *names, keywords, keywords, *labels, f"{patient}_{eye}.jpg"])
    write_table(folder / "photographs/full_df.csv", _COLUMNS, rows)
    flags = ["--image_size", "64", "--audit", "off", "--workers", "1", "--folds", "2"]
    assert run_builder("odir", "--source", folder / "photographs", "--records", folder / "records", *flags)[0] == 0
    return folder / "records"


@functools.cache
def run_dir():
    import train

    folder = records_root().parent
    (folder / "config.gin").write_text(CONFIG)
    arguments = ["--gin_file", folder / "config.gin", "--records", records_root(), "--run_dir", folder / "run"]
    with contextlib.redirect_stdout(io.StringIO()):
        train.main([str(argument) for argument in arguments])
    return folder / "run"


def photographs():
    return records_root().parent / "photographs/preprocessed_images"
