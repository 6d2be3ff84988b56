"""Decisions as lines of text, each as soon as it is made: a table for people, JSON lines and CSV for programs."""

import csv
import dataclasses
import io
import json

from dr_tf.grades import DME_RISKS
from dr_tf.inference.decision import PatientDecision, grade_name, tells_edema

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
    """A Decision or PatientDecision as plain data, under the names that its fields have; without those of macular edema
    where the run does not tell its risk."""
    fields = _of_patient(decision) if isinstance(decision, PatientDecision) else dataclasses.asdict(decision)
    told = tells_edema(decision)
    return {name: value for name, value in fields.items() if told or not name.startswith("dme")}


def _of_patient(decision):
    worse = decision.worse
    return {
        "patient": decision.patient,
        "action": decision.action,
        "grade": decision.grade,
        "positive": worse.positive,
        "p_positive": decision.p_positive,
        "threshold": worse.threshold,
        "dme": decision.dme,
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
    fields, told = as_dict(decision), tells_edema(decision)
    edema = {"dme": decision.dme} if told else {}
    if isinstance(decision, PatientDecision):
        fields["photographs"] = " ".join(d["photograph"] for d in fields["photographs"])
        return {name: fields[name] for name in _PATIENT_COLUMNS} | edema
    flat = {name: fields[name] for name in _COLUMNS}
    flat |= {f"p({name})": decision.probabilities.get(name) for name in classes} | edema
    return flat | ({f"p({name})": decision.dme_probabilities.get(name) for name in DME_RISKS} if told else {})


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
            edema = f"{'macular edema':21}  " if tells_edema(decision) else ""
            yield f"{'action':8} {header:>{_width(header)}}  {'grade':18}  {edema}of"
        p = "-" if decision.p_positive is None else f"{decision.p_positive:.3f}"
        grade = "-" if decision.grade is None else f"{decision.grade} {grade_name(decision.grade)}"
        yield f"{decision.action:8} {p:>{_width(header)}}  {grade:18}  {_edema(decision)}{_name(decision)}"


def _edema(decision):
    if not tells_edema(decision):
        return ""
    risk = "-" if decision.dme is None else f"{decision.dme} {DME_RISKS[decision.dme]}"
    return f"{risk:21}  "


def _width(header):
    return max(7, len(header))


def _name(decision):
    if isinstance(decision, PatientDecision):
        return decision.patient + (f": {decision.remark}" if decision.remark else "")
    return decision.photograph + (f": {decision.reason}" if decision.reason else "")


# Name of --format -> function of (decisions, names of the classes) that yields lines.
FORMATS = {"table": table_lines, "json": json_lines, "csv": csv_lines}
