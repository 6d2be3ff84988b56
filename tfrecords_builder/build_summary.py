"""Summarize a build for the terminal: images per split and grade, rejections by reason, notes, sizes, and time."""

import collections
from collections.abc import Iterator, Sequence

from dr_tf.grades import ABSENT, GRADES
from dr_tf.safe_names import printable
from tfrecords_builder.build import BuildReport
from tfrecords_builder.crops import Crop
from tfrecords_builder.samples import SPLITS, Rejection

_MOST_REASONS = 8


def summarize(report: BuildReport) -> str:
    """Return the summary of a build as text of several lines."""
    parts = (_counts(report.crops), _rejections(report.rejections), _notes(report))
    return "\n".join(["", *parts[0], "", *parts[1], *parts[2], "", _sizes(report)])


def _counts(crops: Sequence[Crop]) -> list[str]:
    """A table of images by split and grade, or by any_dr where no image is graded."""
    is_graded = any(c.sample.grade != ABSENT for c in crops)
    names = GRADES if is_graded else ("no DR", "any DR")
    counts = collections.Counter((c.sample.split, c.sample.grade if is_graded else c.sample.any_dr) for c in crops)
    labels = [*range(len(names))] + ([ABSENT] if any(label == ABSENT for _, label in counts) else [])
    header = (*names, "unknown")[: len(labels)]
    rows: list[tuple] = [("split", *header, "all")]
    for split in SPLITS:
        row = [counts[split, label] for label in labels]
        rows.append((split, *row, sum(row)))
    rows.append(("all", *(sum(counts[split, label] for split in SPLITS) for label in labels), len(crops)))
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _rejections(rejections: Sequence[Rejection]) -> list[str]:
    reasons = collections.Counter(_short_reason(r.reason) for r in rejections)
    lines = [f"rejected: {len(rejections)}" + (" (listed in rejected.csv)" if rejections else "")]
    lines += [f"  {count:6d}  {reason}" for reason, count in reasons.most_common(_MOST_REASONS)]
    if len(reasons) > _MOST_REASONS:
        rest = sum(reasons.values()) - sum(count for _, count in reasons.most_common(_MOST_REASONS))
        lines.append(f"  {rest:6d}  other reasons")
    return lines


def _short_reason(reason: str) -> str:
    if not reason.startswith("copy of "):
        return printable(reason)
    return "copies of other images" + (", with different labels" if "label" in reason else "")


def _notes(report: BuildReport) -> Iterator[str]:
    crops, options = report.crops, report.plan.options
    present = {c.sample.split for c in crops}
    if empty := [split for split in SPLITS if split not in present]:
        yield f"note: no image is in {', '.join(empty)}"
    if unknown := sum(not c.sample.patient_id for c in crops):
        yield f"note: the patient of {unknown} images is unknown; each of them counts as a patient of its own"
    if options.paired:
        eyes = collections.Counter(c.sample.group for c in crops).values()
        yield f"note: {len(eyes)} patients, {sum(n == 1 for n in eyes)} of them with one eye only"
    if ungradable := sum(bool(c.gradability.reason) for c in crops):
        yield f"note: {ungradable} images are hard to grade (gradability below 0.5); they are kept"
    yield _leak_audit(report)
    if small := sum(c.geometry.square[2] < options.image_size for c in crops):
        yield f"note: {small} retinas are smaller than {options.image_size} pixels and were enlarged"


def _leak_audit(report: BuildReport) -> str:
    if report.plan.options.audit == "off":
        return "leak audit: off (--audit off)"
    counts = report.audit.counts
    if not counts["exact"] + counts["near"] + counts["same eye"]:
        return "leak audit: no copies and no repeated eyes were found"
    return (
        f"leak audit: {counts['exact']} pairs of exact copies, {counts['near']} of near copies, "
        f"{counts['same eye']} that probably show the same eye. {counts['across splits']} of the pairs cross published "
        f"splits, {counts['label conflicts']} have different labels (listed in {report.plan.address}/audit.csv)"
    )


def _sizes(report: BuildReport) -> str:
    image_mb, record_mb = sum(c.bytes_in for c in report.crops) / 1e6, report.record_bytes / 1e6
    rate = (len(report.crops) + len(report.rejections)) / max(report.seconds, 1e-9)
    plan = report.plan
    processes = f"on {plan.beam_runner.name}" if plan.beam_runner else f"with {plan.workers} workers"
    return (
        f"{image_mb:.1f} MB of images -> {record_mb:.1f} MB of records in {report.seconds:.1f} s "
        f"({rate:.1f} images/s {processes})\n{plan.address}"
    )
