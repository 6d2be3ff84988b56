"""A tiny record set of patients with two eyes and eight labels, and a run trained on it, shared by all tests of a process."""

import functools

from dr_tf.grades import ODIR_LABELS
from tests import tiny
from tests.tfrecords_builder.trees import jpeg, photograph, write, write_table

DATASET = "odir/64-plain-q95-paired"
PATIENTS = 96
ONE_EYED = (5, 17, 30, 61)  # patients without an image of the right eye
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
{tiny.BACKBONE}
"""
_COLUMNS = (
    "ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords",
    "Right-Diagnostic Keywords", *ODIR_LABELS, "filename",
)  # fmt: skip


@functools.cache
def records_root():
    """Folder of record sets with DATASET. Each patient has one of the eight labels."""
    folder = tiny.temporary_folder()
    rows = []
    for patient in range(PATIENTS):
        eyes = ["left"] if patient in ONE_EYED else ["left", "right"]
        label = patient % len(ODIR_LABELS)
        labels = [int(i == label) for i in range(len(ODIR_LABELS))]
        keywords = "moderate non proliferative retinopathy" if label == 1 else "normal fundus"
        for i, eye in enumerate(eyes):
            write(
                folder / "photographs/preprocessed_images" / f"{patient}_{eye}.jpg", jpeg(photograph(2 * patient + i))
            )
            names = [f"{patient}_{side}.jpg" for side in ("left", "right")]
            rows.append([patient, 50, "Female", *names, keywords, keywords, *labels, f"{patient}_{eye}.jpg"])
    write_table(folder / "photographs/full_df.csv", _COLUMNS, rows)
    return tiny.build_records("odir", folder / "photographs", folder / "records")


@functools.cache
def run_dir():
    """A run trained on DATASET for two epochs."""
    return tiny.train_run(records_root().parent, CONFIG, records_root())


def photographs():
    """Folder of the image files."""
    return records_root().parent / "photographs/preprocessed_images"
