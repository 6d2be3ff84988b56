"""Compute the fingerprint of a build's inputs, which shows whether an existing record set is up to date."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from dr_tf.console import UserError
from tfrecords_builder.plan import Plan
from tfrecords_builder.samples import Listing

METADATA = "metadata.json"  # of TFDS: it holds the fingerprint


def fingerprint(plan: Plan, listing: Listing) -> dict[str, Any]:
    """Compute the fingerprint of a build. Two builds with equal fingerprints write equal bytes.

    Returns:
        The options, the number of images, and a digest of the names, sizes and labels of all images.
    """
    options = {
        **dataclasses.asdict(plan.options),
        "shares": {split: round(share, 6) for split, share in plan.shares.items()},
        "seed": plan.seed,
        "folds": plan.folds,
    }
    digest = hashlib.sha256()
    for sample in sorted(listing.samples, key=lambda s: s.image_id):
        # A file enters by its size. Its path does not, because it has no effect on the records.
        # The digest depends on the order of Sample's fields, so new fields make existing record sets stale. `frames` came
        # later, and enters only where there are several.
        names = [field.name for field in dataclasses.fields(sample) if field.name != "frames" or sample.frames]
        fields = {name: getattr(sample, name) for name in names}
        fields |= {"path": None, "masks": tuple((lesion, _size(path)) for lesion, path in sample.masks)}
        digest.update(repr((tuple(fields.values()), _size(sample.path))).encode())
    return {"options": options, "photographs": len(listing.samples), "source_table": digest.hexdigest()}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return one line for each difference between two fingerprints."""
    lines = [
        f"{name}: {before['options'].get(name)} before, {value} now"
        for name, value in now["options"].items()
        if before["options"].get(name) != value
    ]
    if before["photographs"] != now["photographs"]:
        lines.append(f"source table: {before['photographs']} images before, {now['photographs']} now")
    elif before["source_table"] != now["source_table"]:
        lines.append("source table: the number of images is the same, but their names, sizes or labels changed")
    return lines


def read_metadata(folder: pathlib.Path) -> bytes:
    """Return the content of the metadata.json of a record set; nothing if it cannot be read."""
    try:
        return (folder / METADATA).read_bytes()
    except OSError:
        return b""


def check_same_fingerprint(address: str, metadata: bytes, new_fingerprint: dict[str, Any]) -> None:
    """Check that a record set was made from the same options and images.

    Args:
        address: Where the record set is, for the message.
        metadata: The content of its metadata.json.
        new_fingerprint: The fingerprint of the options and images.

    Raises:
        UserError: It was made from others.
    """
    try:
        changes = differences(json.loads(metadata)["fingerprint"], new_fingerprint)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{address} was not written by this builder; --overwrite replaces it") from None
    if changes:
        lines = "".join(f"\n  {line}" for line in changes)
        raise UserError(f"{address} exists, but was made from different inputs:{lines}\n--overwrite rebuilds it")


def _size(path: pathlib.Path | None) -> int | None:
    try:
        return path.stat().st_size if path else None
    except OSError:
        return None
