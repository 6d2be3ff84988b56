"""Build a record set for a bucket: on this machine first, and then it is uploaded, with the marker of a finished set last.

A bucket cannot rename a folder in one step. A set whose marker is missing is taken by no reader, and the next build
completes or replaces it.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterable, Mapping

from dr_tf.buckets.cache import locked
from dr_tf.buckets.storage import Bucket, Entry
from dr_tf.console import UserError, progress
from dr_tf.data.bucket_records import CHECKSUMS, MARKER, check_sizes, parse_checksums, read_checksums
from tfrecords_builder.build import BuildReport, build
from tfrecords_builder.fingerprint import METADATA, check_same_fingerprint, fingerprint, read_metadata
from tfrecords_builder.plan import Plan
from tfrecords_builder.samples import Listing

_REBUILDS = "; --overwrite rebuilds it"


def build_in_bucket(plan: Plan, listing: Listing) -> BuildReport | None:
    """Build the record set of a listing below `plan.records`, upload it to `plan.bucket`, and delete the local one.

    Returns:
        A report, or None if a finished record set with the same options and images was in the bucket, or was built
        before and is uploaded now.

    Raises:
        UserError: As `build` does; or the bucket cannot be read or written.
    """
    bucket = Bucket(plan.address)
    with locked(plan.records):
        if not plan.overwrite and _is_up_to_date(plan, listing, bucket):
            return None
        report = build(dataclasses.replace(plan, overwrite=plan.overwrite or _is_outdated(plan, listing)), listing)
        upload(plan, bucket)
        shutil.rmtree(plan.target)
        return report


def _is_up_to_date(plan: Plan, listing: Listing, bucket: Bucket) -> bool:
    files = bucket.files(depth=1)
    if MARKER not in files:
        return False
    metadata = bucket.read_whole(METADATA, files[METADATA].size) if METADATA in files else b""
    check_same_fingerprint(bucket.url, metadata, fingerprint(plan, listing))
    check_sizes(bucket.url, files, read_checksums(bucket, files)[1], _REBUILDS)
    return True


def _is_outdated(plan: Plan, listing: Listing) -> bool:
    """Return whether a set that was built and not uploaded is of other options or images."""
    try:
        check_same_fingerprint(plan.address, read_metadata(plan.target), fingerprint(plan, listing))
    except UserError:
        return True
    return False


def upload(plan: Plan, bucket: Bucket) -> None:
    """Upload the record set in `plan.target`. An upload that was interrupted goes on where it ended.

    `checksums.json` is written first and says what the upload is of. The marker is written last, after the sizes of all
    others have been checked.

    Raises:
        UserError: A file cannot be written, or is not whole in the bucket. The marker is missing then.
    """
    checksums = (plan.target / CHECKSUMS).read_bytes()
    stated = parse_checksums(checksums)
    del stated[MARKER]
    there = bucket.files(depth=1)
    if MARKER in there or CHECKSUMS not in there or bucket.read_whole(CHECKSUMS, there[CHECKSUMS].size) != checksums:
        _remove(bucket, there, stated)
        bucket.put(plan.target / CHECKSUMS, CHECKSUMS)
        there = {}
    missing = {name: size for name, (size, _) in stated.items() if name not in there or there[name].size != size}
    with progress(sum(missing.values()), "uploading", "B") as bar:
        bar.unit_scale = True
        for name, size in missing.items():
            bucket.put(plan.target / name, name)
            bar.update(size)
    check_sizes(bucket.url, bucket.files(depth=1), stated, "; run the command again")
    bucket.put(plan.target / MARKER, MARKER)


def _remove(bucket: Bucket, there: Mapping[str, Entry], new: Iterable[str]) -> None:
    """Remove the files of another set, the marker first: a file of it could be taken for one that was uploaded now."""
    old: Iterable[str] = ()
    if CHECKSUMS in there:
        with contextlib.suppress(ValueError):  # whatever it was a table of stays
            old = parse_checksums(bucket.read_whole(CHECKSUMS, there[CHECKSUMS].size))
    names = there.keys() & {*old, *new, MARKER, CHECKSUMS}
    for name in sorted(names, key=lambda name: (name != MARKER, name)):
        bucket.remove(name)
