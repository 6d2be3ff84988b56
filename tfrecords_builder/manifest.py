"""Whether the shards of a record set are those that its build wrote: a build that is done is whole."""

import hashlib
import json

from dr_tf.console import UserError

_NAME = "checksums.json"
_OVERHEAD = 16  # bytes of a TFRecord besides its data, which TFDS leaves out where it counts


def write_manifest(folder):
    """Notes size and sha256 of each shard below `folder`."""
    shards = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in _shards(folder)}
    (folder / _NAME).write_text(json.dumps(shards, indent=2) + "\n", encoding="utf-8")


def refuse_damaged(folder):
    """UserError that names the shard which is absent, cut or altered."""
    try:
        if (folder / _NAME).exists():
            faults = _by_manifest(folder, json.loads((folder / _NAME).read_text(encoding="utf-8")))
        else:  # written before there were manifests
            faults = _by_sizes(folder, json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")))
        fault = next(faults, None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"what it holds cannot be told: {type(error).__name__}: {error}"
    if fault:
        raise UserError(f"{folder} is damaged: {fault}; --overwrite builds it anew")


def _by_manifest(folder, shards):
    for name, noted in shards.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is absent"
        elif path.stat().st_size != noted["bytes"]:
            yield f"{name} has {path.stat().st_size} bytes, not {noted['bytes']}"
        elif _sha256(path) != noted["sha256"]:
            yield f"{name} was altered"


def _by_sizes(folder, info):
    for split in info["splits"]:
        found = list(folder.glob(f"*-{split['name']}.tfrecord*"))
        lengths = [int(length) for length in split["shardLengths"]]
        size = sum(path.stat().st_size for path in found)
        noted = int(split["numBytes"]) + _OVERHEAD * sum(lengths)
        if len(found) != len(lengths):
            yield f"the split {split['name']} has {len(found)} shards, not {len(lengths)}"
        elif size != noted:
            yield f"the shards of the split {split['name']} have {size} bytes, not {noted}"


def _shards(folder):
    return sorted(folder.glob("*.tfrecord*"))


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
