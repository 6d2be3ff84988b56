"""The end of a build in words: what went where, what was rejected and why, sizes, seconds."""

import collections

from dr_tf.grades import ABSENT, GRADES
from tfrecords_builder.samples import SPLITS


def summarize(report):
    lines = ["", *_counts(report.crops), "", *_rejected(report.rejections), *_notes(report), "", _sizes(report)]
    return "\n".join(lines)


def _counts(crops):
    """Photographs by split and grade, or by any_dr where nothing is graded."""
    graded = any(c.sample.grade != ABSENT for c in crops)
    names = GRADES if graded else ("no DR", "any DR")
    table = collections.Counter((c.sample.split, c.sample.grade if graded else c.sample.any_dr) for c in crops)
    columns = [*range(len(names))] + ([ABSENT] if any(value == ABSENT for _, value in table) else [])
    header = [*names, "unknown"][: len(columns)] if ABSENT in columns else names
    rows = [("split", *header, "all")]
    for split in SPLITS:
        counts = [table[split, value] for value in columns]
        rows.append((split, *counts, sum(counts)))
    rows.append(("all", *(sum(table[s, v] for s in SPLITS) for v in columns), len(crops)))
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _rejected(rejections):
    reasons = collections.Counter(_in_short(r.reason) for r in rejections)
    lines = [f"rejected: {len(rejections)}" + (" (each named in rejected.csv)" if rejections else "")]
    lines += [f"  {count:6d}  {reason}" for reason, count in reasons.most_common(8)]
    if len(reasons) > 8:
        lines.append(f"  {sum(reasons.values()) - sum(n for _, n in reasons.most_common(8)):6d}  other reasons")
    return lines


def _in_short(reason):
    if not reason.startswith("a copy of "):
        return reason
    return "copies of other photographs" + (", with different labels" if "label" in reason else "")


def _notes(report):
    crops = report.crops
    present = {c.sample.split for c in crops}
    if missing := [split for split in SPLITS if split not in present]:
        yield f"note: no photograph is in {', '.join(missing)}"
    if not all(c.sample.patient_id for c in crops):
        unknown = sum(not c.sample.patient_id for c in crops)
        yield f"note: the patient of {unknown} photographs is not known; each counts as its own patient"
    if report.plan.options.paired:
        eyes = collections.Counter(c.sample.group for c in crops).values()
        yield f"note: {len(eyes)} patients, {sum(n == 1 for n in eyes)} of them with one eye"
    if low := sum(bool(c.gradability.reason) for c in crops):
        yield f"note: {low} photographs are hard to grade (gradability below 0.5); they are kept"
    side = report.plan.options.image_size
    yield _audited(report)
    if small := sum(c.geometry.square[2] < side for c in crops):
        yield f"note: {small} retinas are smaller than {side} pixels and were enlarged"


def _audited(report):
    if report.plan.options.audit == "off":
        return "note: no leak audit was made (--audit off)"
    counts = report.verdict.counts
    if not counts["exact"] + counts["near"] + counts["same eye"]:
        return "leak audit: no copies, no second photographs of an eye"
    return (
        f"leak audit, pairs: {counts['exact']} exact copies, {counts['near']} near copies, {counts['same eye']} likely of "
        f"one eye; {counts['across splits']} across splits, {counts['label conflicts']} with different labels "
        f"(each named in {report.plan.target / 'audit.csv'})"
    )


def _sizes(report):
    before, after = sum(c.bytes_in for c in report.crops) / 1e6, report.bytes_out / 1e6
    rate = (len(report.crops) + len(report.rejections)) / max(report.seconds, 1e-9)
    plan = report.plan
    means = f"on {plan.beam.name}" if plan.beam else f"with {plan.workers} workers"
    return (
        f"{before:.1f} MB of photographs -> {after:.1f} MB of records in {report.seconds:.1f} s "
        f"({rate:.1f} photographs/s {means})\n{report.plan.target}"
    )
