"""A small record set of drawn photographs, built once for all tests that train on something."""

import atexit
import contextlib
import functools
import io
import pathlib
import shutil
import tempfile

from tests.tfrecords_builder.trees import run_builder, write_folder

DATASET = "tiny/64-plain-q95"
CONFIG = """
train.dataset = 'tiny/64-plain-q95'
train.heads = {'grade': @softmax()}
train.model = @classifier
train.epochs = 1
train.batch_size = 5
classifier.backbone = @backbone()
backbone.name = 'resnet_v2'
backbone.image_size = 64
"""
CLASSES = "none,mild,moderate,severe,proliferative"


@functools.cache
def records_root():
    """Folder of record sets with DATASET: five grades, 15 photographs in each of the four splits."""
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_folder(folder / "photographs", splits=("train", "valid", "calibration", "test"), each=3)
    arguments = [
        "--name",
        "tiny",
        "--classes",
        CLASSES,
        "--image_size",
        "64",
        "--audit",
        "off",
        "--workers",
        "1",
        "--folds",
        "2",
    ]
    run_builder("folder", "--source", folder / "photographs", "--records", folder / "records", *arguments)
    return folder / "records"


@functools.cache
def run_dir():
    """A run that was trained on them for an epoch, by train.py."""
    import train

    folder = records_root().parent
    (folder / "config.gin").write_text(CONFIG)
    arguments = ["--gin_file", folder / "config.gin", "--records", records_root(), "--run_dir", folder / "run"]
    with contextlib.redirect_stdout(io.StringIO()):
        train.main([str(argument) for argument in arguments])
    return folder / "run"


def photographs(split="test"):
    return sorted((records_root().parent / "photographs" / split).rglob("*.jpg"))
