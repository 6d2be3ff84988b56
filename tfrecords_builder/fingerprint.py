"""What records follow from, so that a build which is there already is known by what made it."""

import dataclasses
import hashlib


def fingerprint(plan, listing):
    """What the records follow from; two builds with equal fingerprints write equal bytes."""
    options = {
        **dataclasses.asdict(plan.options),
        "shares": {split: round(share, 6) for split, share in plan.shares.items()},
        "seed": plan.seed,
        "folds": plan.folds,
    }
    digest = hashlib.sha256()
    for sample in sorted(listing.samples, key=lambda s: s.image_id):
        # Sizes stand for the files: where they lie decides nothing that is written.
        lesions = tuple((lesion, _size(path)) for lesion, path in sample.masks)
        labels = dataclasses.astuple(dataclasses.replace(sample, path=None, masks=lesions))
        digest.update(repr((labels, _size(sample.path))).encode())
    return {"options": options, "photographs": len(listing.samples), "source_table": digest.hexdigest()}


def differences(before, now):
    """One line for each thing in which two fingerprints differ."""
    lines = [
        f"{name}: {before['options'].get(name)} before, {value} now"
        for name, value in now["options"].items()
        if before["options"].get(name) != value
    ]
    if before["photographs"] != now["photographs"]:
        lines.append(f"source table: {before['photographs']} photographs before, {now['photographs']} now")
    elif before["source_table"] != now["source_table"]:
        lines.append("source table: as many photographs, but names, sizes or labels are not the same")
    return lines


def _size(path):
    try:
        return path.stat().st_size
    except OSError:
        return None
