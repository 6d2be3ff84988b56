"""Decisions as lines of text, each as soon as it is made: a table for people, JSON lines and CSV for programs."""

import csv
import dataclasses
import io
import json

from dr_tf.inference.decision import PatientDecision, grade_name

_COLUMNS = (
    "photograph",
    "action",
    "gradable",
    "reason",
    "grade",
    "positive",
    "p_positive",
    "threshold",
    "uncertainty",
    "distance",
)
_PATIENT_COLUMNS = ("patient", "action", "grade", "positive", "p_positive", "threshold", "remark", "photographs")


def as_dict(decision):
    """A Decision or PatientDecision as plain data, under the names that its fields have."""
    if not isinstance(decision, PatientDecision):
        return dataclasses.asdict(decision)
    worse = decision.worse
    return {
        "patient": decision.patient,
        "action": decision.action,
        "grade": decision.grade,
        "positive": worse.positive,
        "p_positive": decision.p_positive,
        "threshold": worse.threshold,
        "missing": list(decision.missing),
        "unjudged": list(decision.unjudged),
        "remark": decision.remark,
        "photographs": [{"photograph": d.photograph, "eye": eye, "action": d.action} for eye, d in decision.eyes],
    }


def json_lines(decisions, classes):
    for decision in decisions:
        yield json.dumps(as_dict(decision), allow_nan=False)


def csv_lines(decisions, classes):
    """Empty where there is nothing to say. One header, so all decisions are of photographs or all are of patients."""
    header = None
    for decision in decisions:
        flat = _flat(decision, classes)
        if header is None:
            header = list(flat)
            yield _csv_line(header)
        yield _csv_line(flat.values())


def _flat(decision, classes):
    fields = as_dict(decision)
    if isinstance(decision, PatientDecision):
        fields["photographs"] = " ".join(d["photograph"] for d in fields["photographs"])
        return {name: fields[name] for name in _PATIENT_COLUMNS}
    flat = {name: fields[name] for name in _COLUMNS}
    return flat | {f"p({name})": decision.probabilities.get(name) for name in classes}


def _csv_line(values):
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


def table_lines(decisions, classes):
    """Names come last, so that a line need not wait for the longest of them."""
    header = None
    for decision in decisions:
        if header is None:
            header = f"p({decision.worse.positive if isinstance(decision, PatientDecision) else decision.positive})"
            yield f"{'action':8} {header:>{_width(header)}}  {'grade':18}  of"
        p = "-" if decision.p_positive is None else f"{decision.p_positive:.3f}"
        grade = "-" if decision.grade is None else f"{decision.grade} {grade_name(decision.grade)}"
        yield f"{decision.action:8} {p:>{_width(header)}}  {grade:18}  {_name(decision)}"


def _width(header):
    return max(7, len(header))


def _name(decision):
    if isinstance(decision, PatientDecision):
        return decision.patient + (f": {decision.remark}" if decision.remark else "")
    return decision.photograph + (f": {decision.reason}" if decision.reason else "")


# Name of --format -> function of (decisions, names of the classes) that yields lines.
FORMATS = {"table": table_lines, "json": json_lines, "csv": csv_lines}
