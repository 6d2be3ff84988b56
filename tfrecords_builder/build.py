"""Listing -> crops -> splits -> records, put into place in one rename; or nothing at all."""

import collections
import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable

from dr_tf.console import UserError, progress
from tfrecords_builder.audit import COLUMNS, Verdict, judge, refuse_crossing, with_splits
from tfrecords_builder.copy_search import Traces
from tfrecords_builder.crops import Rejection, Spool, crop_sample, died
from tfrecords_builder.fingerprint import differences, fingerprint
from tfrecords_builder.manifest import refuse_damaged, write_manifest
from tfrecords_builder.pairs import one_an_eye
from tfrecords_builder.splits import assign_folds, assign_splits
from tfrecords_builder.tables import write_csv
from tfrecords_builder.workers import map_in_order

VERSION = "1.0.0"


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a build needs besides the listing. `options` and `shares`, `seed`, `folds` decide what is written."""

    name: str
    source: object
    records: object
    options: object
    shares: dict
    seed: int = 0
    folds: int = 5
    workers: int = 2
    overwrite: bool = False
    beam: object = None  # a BeamRunner that crops and writes in place of this machine's processes
    starting: Callable = contextlib.nullcontext  # around the first import of TensorFlow

    @property
    def target(self):
        return self.records / self.name / self.options.config_name / VERSION

    @property
    def staging(self):
        return self.records / f".building-{self.name}-{self.options.config_name}"

    @property
    def beam_folder(self):
        return self.staging / "beam"

    @property
    def replaced(self):
        return self.records / f".replaced-{self.name}-{self.options.config_name}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What a build did, for the summary and the contact sheet."""

    plan: Plan
    crops: list  # with their splits, without their JPEGs
    rejections: list
    bytes_out: int
    seconds: float
    verdict: Verdict


def build(plan, listing):
    """Builds the records; returns a Report, or None where they are there already. UserError where it cannot."""
    if not listing.samples:
        raise UserError("no photograph is left to build from" + _main_reasons(listing.rejections))
    with _alone(plan):
        _recover(plan)
        made_from = fingerprint(plan, listing)
        if plan.target.exists() and not plan.overwrite:
            _check_same(plan, made_from)
            refuse_damaged(plan.target)
            return None
        try:
            return _build(plan, listing, made_from)
        finally:
            _recover(plan)


def _build(plan, listing, made_from):
    start = time.monotonic()
    plan.staging.mkdir(parents=True)
    with Spool(plan.staging / "crops") as spool, Traces(plan.staging / "views") as traces:
        rejections = listing.rejections + _crop_all(plan, listing.samples, spool, traces)
        verdict = _audit(plan, spool, traces)
        samples, surplus = one_an_eye(spool.crops()) if plan.options.paired else (verdict.samples, [])
        samples, torn = assign_splits(samples, plan.shares, plan.seed, verdict.groups)
        rejections += verdict.rejections + surplus + torn
        if not samples:
            raise UserError("no photograph is left to build from" + _main_reasons(rejections))
        spool.place({s.image_id: s for s in samples})
        folder = _write(plan, spool, made_from)
    write_csv(folder / "folds.csv", ("image_id", "patient_id", "grade", "fold"), _fold_rows(samples, plan, verdict))
    write_csv(
        folder / "rejected.csv",
        ("image_id", "path", "reason"),
        [(r.image_id, _relative(r.path, plan.source), r.reason) for r in rejections],
    )
    if plan.options.audit != "off":
        write_csv(folder / "audit.csv", COLUMNS, with_splits(verdict.rows, samples))
    write_manifest(pathlib.Path(folder))
    _put_in_place(plan, folder)
    size = sum(path.stat().st_size for path in plan.target.iterdir())
    return Report(plan, spool.crops(), rejections, size, time.monotonic() - start, verdict)


def _audit(plan, spool, traces):
    """The Verdict on what was cropped; the spool keeps what stays."""
    crops = spool.crops()
    scores = {c.sample.image_id: c.gradability.score for c in crops}
    verdict = judge([c.sample for c in crops], scores, traces.pairs(workers=plan.workers))
    if plan.options.audit == "strict":
        refuse_crossing(verdict)
    spool.place({s.image_id: s for s in verdict.samples})
    return verdict


def _crop_all(plan, samples, spool, traces):
    rejections = []
    results = _cropped(plan, samples)
    with contextlib.closing(results), progress(len(samples), "cropping", "photographs") as bar:
        for result in results:
            if isinstance(result, Rejection):
                rejections.append(result)
                bar.set_postfix_str(f"{len(rejections)} rejected", refresh=False)
            else:
                spool.append(result)
                if result.trace:
                    traces.append(result.sample.image_id, result.trace)
            bar.update()
    return rejections


def _cropped(plan, samples):
    if plan.beam:
        from tfrecords_builder.beam_crops import crop_on_beam

        return crop_on_beam(samples, plan.options, plan.beam_folder, plan.beam)
    crop = functools.partial(crop_sample, options=plan.options)
    return map_in_order(crop, samples, workers=plan.workers, on_death=died)


def _write(plan, spool, made_from):
    # Imported here: cropping, --help and a finished build answer without waiting for TensorFlow.
    with plan.starting():
        from tfrecords_builder.records import write_records

        write_splits = None
        if plan.beam:
            from tfrecords_builder import records_on_beam

            where = {"runner": plan.beam, "folder": plan.beam_folder}
            write_splits = functools.partial(records_on_beam.write_splits, **where)
    return write_records(
        name=plan.name,
        options=plan.options,
        spool=spool,
        metadata={"fingerprint": made_from},
        data_dir=plan.staging,
        write_splits=write_splits,
    )


def _fold_rows(samples, plan, verdict):
    """One row a photograph; paired records are found by their patient_id."""
    folds = assign_folds(samples, plan.folds, plan.seed, verdict.groups)
    return [(s.image_id, s.group, s.grade, folds[s.image_id]) for s in samples if s.image_id in folds]


def _put_in_place(plan, folder):
    """The old records are there until the new ones are; a kill between the two renames is mended by `_recover`."""
    plan.target.parent.mkdir(parents=True, exist_ok=True)
    if plan.target.exists():
        plan.target.rename(plan.replaced)
    folder.rename(plan.target)
    shutil.rmtree(plan.replaced, ignore_errors=True)


def _recover(plan):
    shutil.rmtree(plan.staging, ignore_errors=True)
    if plan.replaced.exists() and not plan.target.exists():
        plan.replaced.rename(plan.target)
    shutil.rmtree(plan.replaced, ignore_errors=True)


@contextlib.contextmanager
def _alone(plan):
    plan.records.mkdir(parents=True, exist_ok=True)
    path = plan.staging.with_name(plan.staging.name + ".lock")
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists() or not os.path.samestat(
                path.stat(), os.fstat(lock.fileno())
            ):  # a build that ended just now took it away
                raise BlockingIOError
        except BlockingIOError:
            raise UserError(f"another build of {plan.target} is under way") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _check_same(plan, made_from):
    try:
        before = json.loads((plan.target / "metadata.json").read_text())["fingerprint"]
        changed = differences(before, made_from)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{plan.target} was not written by this builder; --overwrite replaces it") from None
    if changed:
        lines = "".join(f"\n  {line}" for line in changed)
        raise UserError(f"{plan.target} is there, made from something else:{lines}\n--overwrite builds it anew")


def _main_reasons(rejections):
    reasons = collections.Counter(r.reason for r in rejections).most_common(3)
    return "".join(f"\n  {count} x {reason}" for reason, count in reasons)


def _relative(path, source):
    try:
        return str(path.relative_to(source)) if hasattr(path, "relative_to") else str(path).removeprefix(f"{source}/")
    except ValueError:
        return str(path)
