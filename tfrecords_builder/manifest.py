"""Write and verify checksums.json, the size and SHA-256 digest of each shard of a record set."""

import hashlib
import json
import pathlib

from dr_tf.console import UserError

_NAME = "checksums.json"
_OVERHEAD = 16  # bytes that the TFRecord format adds to each record; TFDS's sizes do not include them


def write_manifest(folder: pathlib.Path) -> None:
    """Write checksums.json beside the shards in `folder`."""
    shards = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in _shards(folder)}
    (folder / _NAME).write_text(json.dumps(shards, indent=2) + "\n", encoding="utf-8")


def verify_shards(folder: pathlib.Path) -> None:
    """Verify that every shard of the record set in `folder` is as its build wrote it.

    Raises:
        UserError: A shard is missing, truncated or altered. The message names it.
    """
    try:
        if (folder / _NAME).exists():
            faults = _faults_by_manifest(folder, json.loads((folder / _NAME).read_text(encoding="utf-8")))
        else:  # record sets of earlier versions have no checksums.json
            faults = _faults_by_size(folder, json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")))
        fault = next(faults, None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"its shards cannot be verified: {type(error).__name__}: {error}"
    if fault:
        raise UserError(f"{folder} is damaged: {fault}; --overwrite rebuilds it")


def _faults_by_manifest(folder, shards):
    for name, expected in shards.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != expected["bytes"]:
            yield f"{name} has {path.stat().st_size} bytes, not {expected['bytes']}"
        elif _sha256(path) != expected["sha256"]:
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


def _shards(folder):
    return sorted(folder.glob("*.tfrecord*"))


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
