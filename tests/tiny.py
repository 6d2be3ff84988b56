"""A tiny record set of synthetic images with five grades, and a run trained on it, shared by all tests of a process."""

import atexit
import functools
import pathlib
import shutil
import tempfile

from tests import commands
from tests.tfrecords_builder.trees import run_builder, write_folder

DATASET = "tiny/64-plain-q95"
CLASSES = "none,mild,moderate,severe,proliferative"
BACKBONE = """
backbone.name = 'resnet_v2'
backbone.image_size = 64
backbone.stem = 4
backbone.filters = (4, 8)
"""
CONFIG = f"""
train.dataset = '{DATASET}'
train.heads = {{'grade': @softmax()}}
train.model = @classifier
train.epochs = 1
train.batch_size = 5
classifier.backbone = @backbone()
{BACKBONE}
"""


def temporary_folder():
    """A folder that is removed when the process ends."""
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def build_records(layout, source, records, *flags):
    """Build records of 64 pixels in two folds from a folder of images."""
    common = ["--image_size", 64, "--audit", "off", "--workers", 1, "--folds", 2]
    status, _, errors = run_builder(layout, "--source", source, "--records", records, *common, *flags)
    assert status == 0, errors
    return records


def train_run(folder, config, records):
    """Train a config with train.py into `folder`/run and return that."""
    import train

    (folder / "config.gin").write_text(config)
    run_dir = folder / "run"
    status, _, errors = commands.run(
        train.main, "--gin_file", folder / "config.gin", "--records", records, "--run_dir", run_dir
    )
    assert status == 0, errors
    return run_dir


@functools.cache
def records_root():
    """Folder of record sets with DATASET: five grades, 15 images in each of the four splits."""
    folder = temporary_folder()
    write_folder(folder / "photographs", splits=("train", "valid", "calibration", "test"), each=3)
    flags = ["--name", "tiny", "--classes", CLASSES]
    return build_records("folder", folder / "photographs", folder / "records", *flags)


@functools.cache
def run_dir():
    """A run trained on DATASET for one epoch."""
    return train_run(records_root().parent, CONFIG, records_root())


def photographs(split="test"):
    """Image files of a split."""
    return sorted((records_root().parent / "photographs" / split).rglob("*.jpg"))
