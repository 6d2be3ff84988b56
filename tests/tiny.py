"""A small record set of drawn photographs, built once for all tests that train on something."""

import atexit
import functools
import pathlib
import shutil
import tempfile

from tests.tfrecords_builder.trees import run_builder, write_folder

DATASET = "tiny/64-plain-q95"
CLASSES = "none,mild,moderate,severe,proliferative"


@functools.cache
def records_root():
    """Folder of record sets with DATASET: five grades, 15 photographs in each of the four splits."""
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_folder(folder / "photographs", splits=("train", "valid", "calibration", "test"), each=3)
    arguments = ["--name", "tiny", "--classes", CLASSES, "--image_size", "64", "--audit", "off", "--workers", "1", "--folds", "2"]
    run_builder("folder", "--source", folder / "photographs", "--records", folder / "records", *arguments)
    return folder / "records"
