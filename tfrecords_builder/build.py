"""Build a record set: crop the images, audit them for leaks, assign splits, write records, and move them into place.

A build works in a hidden staging folder and ends with one rename. If it fails or is killed, no partial record set is
left where a finished one would be, and an older record set survives.
"""

import collections
import contextlib
import dataclasses
import fcntl
import functools
import os
import shutil
import time
from collections.abc import Sequence

from dr_tf.console import UserError, cleaned_up_if_stopped, progress
from dr_tf.files import exchange
from tfrecords_builder.audit import (
    COLUMNS,
    AuditResult,
    refuse_pairs_across_splits,
    resolve_pairs,
    with_assigned_splits,
)
from tfrecords_builder.copy_search import SignatureIndex
from tfrecords_builder.crops import Crop, CropStore, crop_sample, reject_crashed
from tfrecords_builder.eye_pairs import choose_image_per_eye
from tfrecords_builder.fingerprint import check_same_fingerprint, fingerprint, read_metadata
from tfrecords_builder.manifest import verify_files, write_manifest
from tfrecords_builder.plan import Plan
from tfrecords_builder.samples import Listing, Rejection
from tfrecords_builder.splits import assign_folds, assign_splits
from tfrecords_builder.tables import write_csv
from tfrecords_builder.workers import map_in_order


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What a build did, for the summary and the contact sheet.

    Attributes:
        plan: The settings of the build.
        crops: The crops in the record set, with their splits but without their pixels.
        rejections: The images that were left out.
        record_bytes: Size of the record set.
        seconds: Duration of the build.
        audit: The result of the leak audit.
    """

    plan: Plan
    crops: Sequence[Crop]
    rejections: Sequence[Rejection]
    record_bytes: int
    seconds: float
    audit: AuditResult


def build(plan: Plan, listing: Listing) -> BuildReport | None:
    """Build the record set of a listing.

    Returns:
        A report, or None if the record set exists already and was made from the same options and images.

    Raises:
        UserError: No image is left, a different record set exists and `plan.overwrite` is not set, or another build of
            the same record set is running.
    """
    if not listing.samples:
        raise UserError("no image is left to build from" + _main_reasons(listing.rejections))
    with _exclusive_lock(plan):
        _recover(plan)
        new_fingerprint = fingerprint(plan, listing)
        if plan.target.exists() and not plan.overwrite:
            check_same_fingerprint(plan.address, read_metadata(plan.target), new_fingerprint)
            verify_files(plan.target)
            return None
        try:
            with cleaned_up_if_stopped(functools.partial(_recover, plan)):
                return _build(plan, listing, new_fingerprint)
        finally:
            _recover(plan)


def _build(plan, listing, new_fingerprint):
    start = time.monotonic()
    plan.staging.mkdir(parents=True)
    with CropStore(plan.staging / "crops") as store, SignatureIndex(plan.staging / "views") as index:
        rejections = listing.rejections + _crop_all(plan, listing.samples, store, index)
        audit = _audit(plan, store, index)
        samples, surplus = choose_image_per_eye(store.crops()) if plan.options.paired else (audit.samples, [])
        samples, in_two_splits = assign_splits(samples, plan.shares, plan.seed, audit.groups)
        rejections += audit.rejections + surplus + in_two_splits
        if not samples:
            raise UserError("no image is left to build from" + _main_reasons(rejections))
        store.update_samples({s.image_id: s for s in samples})
        folder = _write_records(plan, store, new_fingerprint)
    write_csv(folder / "folds.csv", ("image_id", "patient_id", "grade", "fold"), _fold_rows(samples, plan, audit))
    write_csv(
        folder / "rejected.csv",
        ("image_id", "path", "reason"),
        [(r.image_id, r.path.removeprefix(f"{plan.source}/"), r.reason) for r in rejections],
    )
    if plan.options.audit != "off":
        write_csv(folder / "audit.csv", COLUMNS, with_assigned_splits(audit.rows, samples))
    write_manifest(folder)
    _put_in_place(plan, folder)
    record_bytes = sum(path.stat().st_size for path in plan.target.iterdir())
    return BuildReport(plan, store.crops(), rejections, record_bytes, time.monotonic() - start, audit)


def _audit(plan, store, index):
    """Audit the crops of a store, and drop those that the audit rejects."""
    crops = store.crops()
    gradability = {c.sample.image_id: c.gradability.score for c in crops}
    audit = resolve_pairs([c.sample for c in crops], gradability, index.find_pairs(workers=plan.workers))
    if plan.options.audit == "strict":
        refuse_pairs_across_splits(audit)
    store.update_samples({s.image_id: s for s in audit.samples})
    return audit


def _crop_all(plan, samples, store, index):
    """Crop all samples into a store, add their signatures to an index, and return the rejections."""
    rejections = []
    results = _crops(plan, samples)
    with contextlib.closing(results), progress(len(samples), "cropping", "images") as bar:
        for result in results:
            if isinstance(result, Rejection):
                rejections.append(result)
                bar.set_postfix_str(f"{len(rejections)} rejected", refresh=False)
            else:
                store.append(result)
                if result.signature:
                    index.add(result.sample.image_id, result.signature)
            bar.update()
    return rejections


def _crops(plan, samples):
    if plan.beam_runner:
        from tfrecords_builder.beam_crops import crop_on_beam

        return crop_on_beam(samples, plan.options, plan.beam_folder, plan.beam_runner)
    crop = functools.partial(crop_sample, options=plan.options)
    return map_in_order(crop, samples, workers=plan.workers, on_crash=reject_crashed)


def _write_records(plan, store, new_fingerprint):
    # Imported here, so that cropping, --help and finished builds do not wait for TensorFlow.
    with plan.starting():
        from tfrecords_builder.records import write_records

        write_splits = None
        if plan.beam_runner:
            from tfrecords_builder import records_on_beam

            write_splits = functools.partial(
                records_on_beam.write_splits, runner=plan.beam_runner, folder=plan.beam_folder
            )
    return write_records(
        name=plan.name,
        options=plan.options,
        store=store,
        metadata={"fingerprint": new_fingerprint},
        data_dir=plan.staging,
        write_splits=write_splits,
    )


def _fold_rows(samples, plan, audit):
    """One row per image. The reader of paired records looks their folds up by patient_id."""
    folds = assign_folds(samples, plan.folds, plan.seed, audit.groups)
    return [(s.image_id, s.group, s.grade, folds[s.image_id]) for s in samples if s.image_id in folds]


def _put_in_place(plan, folder):
    """Replace the old record set by the new one, in one step where the system can exchange folders.

    Elsewhere `_recover` repairs a build that was killed between the two renames.
    """
    plan.target.parent.mkdir(parents=True, exist_ok=True)
    if plan.target.exists():
        if exchange(folder, plan.target):
            return  # the old one is in the staging folder now, which is deleted
        plan.target.rename(plan.replaced)
    folder.rename(plan.target)
    shutil.rmtree(plan.replaced, ignore_errors=True)


def _recover(plan):
    """Delete what an interrupted build left, and restore the old record set if the new one is not in place."""
    shutil.rmtree(plan.staging, ignore_errors=True)
    if plan.replaced.exists() and not plan.target.exists():
        plan.replaced.rename(plan.target)
    shutil.rmtree(plan.replaced, ignore_errors=True)


@contextlib.contextmanager
def _exclusive_lock(plan):
    plan.records.mkdir(parents=True, exist_ok=True)
    path = plan.staging.with_name(plan.staging.name + ".lock")
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A build that ended between open() and flock() has deleted the file, and then this lock excludes nobody.
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(lock.fileno())):
                raise BlockingIOError
        except BlockingIOError:
            raise UserError(f"another build of {plan.address} is running") from None
        unlock = functools.partial(path.unlink, missing_ok=True)
        try:
            with cleaned_up_if_stopped(unlock):
                yield
        finally:
            unlock()


def _main_reasons(rejections):
    reasons = collections.Counter(r.reason for r in rejections).most_common(3)
    return "".join(f"\n  {count} x {reason}" for reason, count in reasons)
