"""Write and verify checksums.json, the size and SHA-256 digest of each file of a record set."""

import json
import pathlib

from dr_tf.console import UserError
from dr_tf.data.bucket_records import CHECKSUMS
from dr_tf.files import sha256

_OVERHEAD = 16  # bytes that the TFRecord format adds to each record; TFDS's sizes do not include them


def write_manifest(folder: pathlib.Path) -> None:
    """Write checksums.json beside the files in `folder`."""
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())}
    (folder / CHECKSUMS).write_text(json.dumps(files, indent=2) + "\n", encoding="utf-8")


def verify_files(folder: pathlib.Path) -> None:
    """Verify that every file of the record set in `folder` is as its build wrote it.

    Raises:
        UserError: A file is missing, truncated or altered. The message names it.
    """
    try:
        if (folder / CHECKSUMS).exists():
            faults = _faults_by_manifest(folder, json.loads((folder / CHECKSUMS).read_text(encoding="utf-8")))
        else:  # record sets of earlier versions have no checksums.json
            faults = _faults_by_size(folder, json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")))
        fault = next(faults, None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"its files cannot be verified: {type(error).__name__}: {error}"
    if fault:
        raise UserError(f"{folder} is damaged: {fault}; --overwrite rebuilds it")


def _faults_by_manifest(folder, files):
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != expected["bytes"]:
            yield f"{name} has {path.stat().st_size} bytes, not {expected['bytes']}"
        elif sha256(path) != expected["sha256"]:
            yield f"{name} was altered"


def _faults_by_size(folder, info):
    for split in info["splits"]:
        shards = list(folder.glob(f"*-{split['name']}.tfrecord*"))
        lengths = [int(length) for length in split["shardLengths"]]
        size = sum(path.stat().st_size for path in shards)
        expected = int(split["numBytes"]) + _OVERHEAD * sum(lengths)
        if len(shards) != len(lengths):
            yield f"the split {split['name']} has {len(shards)} shards, not {len(lengths)}"
        elif size != expected:
            yield f"the shards of the split {split['name']} have {size} bytes, not {expected}"
