"""Output formats of decisions: a table for people, JSON lines and CSV for programs, one line for each decision.

Each format takes the rule that decided. Its heads determine the columns, also for cases without a prediction.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tf.grades import EYES
from dr_tf.inference.decision import Decision, PatientDecision, grade_name
from dr_tf.inference.single_eyes import WORSE_EYE
from dr_tf.safe_names import csv_line, printable

if TYPE_CHECKING:
    from dr_tf.inference.rule import Rule

_COLUMNS = (
    "case",
    "action",
    "gradable",
    "reason",
    "grade",
    "positive",
    "p_positive",
    "threshold",
    "uncertainty",
    "distance",
    "frame",
    "warning",
    "grade_range",
)
_PATIENT_COLUMNS = ("patient", "action", "grade", "positive", "p_positive", "threshold", "remark", "photographs")

AnyDecision = Decision | PatientDecision


def as_dict(decision: AnyDecision) -> dict[str, Any]:
    """Convert a decision to plain data."""
    if isinstance(decision, PatientDecision):
        return _patient_as_dict(decision)
    fields = dataclasses.asdict(decision)
    fields["images"] = [{"eye": eye, **image} for eye, image in fields["images"].items()]
    more = {"p_positive": decision.p_positive, "threshold": decision.threshold, "missing": list(decision.missing)}
    return fields | more


def frames_text(decision: Decision) -> str:
    """Return which frames of DICOM files were taken: "frame 2" or "left eye: frame 2, right eye: frame 3"; else nothing."""
    return ", ".join(f"{eye} eye: frame {n}" if eye else f"frame {n}" for eye, n in decision.frames.items())


def as_json(decision: AnyDecision) -> dict[str, Any]:
    """Convert a decision to plain data for JSON: as `as_dict`, with `printable` names.

    A name that is not UTF-8 would otherwise be half a surrogate pair, which strict readers of JSON refuse.
    """
    fields = as_dict(decision)
    fields |= {key: printable(fields[key]) for key in ("case", "patient") if key in fields}
    for key in ("images", "photographs"):
        if key in fields:
            fields[key] = [one | {"photograph": printable(one["photograph"])} for one in fields[key]]
    return fields


def _patient_as_dict(decision):
    worse = decision.worse_decision
    outputs = dict.fromkeys(output for _, by_eye in decision.eyes for output in by_eye.other_outputs)
    return {
        "patient": decision.patient,
        "action": decision.action,
        "grade": decision.grade,
        "positive": worse.positive,
        "p_positive": decision.p_positive,
        "threshold": worse.threshold,
        "other_outputs": {output: decision.most_probable_class(output) for output in outputs},
        "missing": list(decision.missing),
        "ungradable_eyes": list(decision.ungradable_eyes),
        "remark": decision.remark,
        "photographs": [{"photograph": d.case, "eye": eye, "action": d.action} for eye, d in decision.eyes],
    }


def json_lines(decisions: Iterable[AnyDecision], rule: Rule) -> Iterator[str]:
    """Yield one JSON object for each decision."""
    del rule
    for decision in decisions:
        yield json.dumps(as_json(decision), allow_nan=False)


def csv_lines(decisions: Iterable[AnyDecision], rule: Rule) -> Iterator[str]:
    """Yield a CSV header and a row for each decision; nothing without decisions.

    There is one header, so all decisions must be on cases, or all on patients.
    """
    header_printed = False
    for decision in decisions:
        row = _csv_row(decision, rule)
        if not header_printed:
            header_printed = True
            yield csv_line(list(row))
        yield csv_line(row.values())


def _csv_row(decision, rule):
    # Named so that no output, whatever its name and classes, replaces a column of the output that decides.
    other_classes = {f"class({output})": decision.most_probable_class(output) for output in rule.other_outputs}
    fields = as_dict(decision)
    if isinstance(decision, PatientDecision):
        fields["photographs"] = " ".join(d["photograph"] for d in fields["photographs"])
        return {name: fields[name] for name in _PATIENT_COLUMNS} | other_classes
    fields["frame"] = " ".join(f"{eye} {number}".strip() for eye, number in decision.frames.items())
    if decision.grade_range is not None:  # spreadsheets would take "1-2" for a date
        fields["grade_range"] = "{} to {}".format(*decision.grade_range)
    row = {name: fields[name] for name in _COLUMNS}
    row |= {f"p({name})": decision.probabilities.get(name) for name in rule.head.classes}
    if len(rule.head.definitions) > 1:
        row |= {name: _is_positive(decision, name) for name in rule.head.definitions}
    if WORSE_EYE in rule.modes:
        for eye in EYES:
            of_eye = decision.eyes.get(eye, {})
            row |= {f"p({eye} eye: {name})": of_eye.get(name) for name in rule.head.classes}
    for output in rule.other_outputs:
        probabilities = decision.other_outputs.get(output, {})
        row |= {f"p({output}: {name})": probabilities.get(name) for name in rule.heads[output].classes}
    return row | other_classes


def _is_positive(decision, definition):
    """Whether the case is positive by a definition; None without a prediction."""
    label_decision = decision.label_decisions.get(definition)
    return None if label_decision is None else label_decision.yes


def table_lines(decisions: Iterable[AnyDecision], rule: Rule) -> Iterator[str]:
    """Yield an aligned table for people. Names come last, so that no line has to wait for the longest name."""
    header = f"p({rule.head.positive})"
    header_printed = False
    for decision in decisions:
        if not header_printed:
            header_printed = True
            others = "".join(f"{output:{_output_width(rule, output)}}  " for output in rule.other_outputs)
            of = "patient" if isinstance(decision, PatientDecision) else "case"
            yield f"{'action':8} {header:>{_p_width(header)}}  {'grade':18}  {others}{of}"
        p = "-" if decision.p_positive is None else f"{decision.p_positive:.3f}"
        grade = "-" if decision.grade is None else f"{decision.grade} {grade_name(decision.grade)}"
        others = "".join(_output_cell(decision, rule, output) for output in rule.other_outputs)
        yield f"{decision.action:8} {p:>{_p_width(header)}}  {grade:18}  {others}{_name_and_remarks(decision, rule)}"


def _output_cell(decision, rule, output):
    number = decision.most_probable_class(output)
    text = "-" if number is None else f"{number} {rule.heads[output].classes[number]}"
    return f"{text:{_output_width(rule, output)}}  "


def _output_width(rule, output):
    return max(len(output), *(len(name) + 2 for name in rule.heads[output].classes))


def _p_width(header):
    return max(7, len(header))


def _name_and_remarks(decision, rule):
    if isinstance(decision, PatientDecision):
        return printable(decision.patient) + (f": {decision.remark}" if decision.remark else "")
    positive_labels = []
    if len(decision.label_decisions) > 1:
        positive_labels = [name for name, label in decision.label_decisions.items() if label.yes]
    missing = [f"no photograph of the {eye} eye" for eye in decision.missing]
    if len(decision.eyes) > 1:
        by_eye = ", ".join(f"{eye} eye {_p_of_eye(decision, rule, eye):.3f}" for eye in decision.eyes)
        missing.append(f"p({rule.head.positive}) by the {by_eye}")
    remarks = [
        part
        for part in (", ".join(positive_labels), decision.reason, decision.warning, frames_text(decision), *missing)
        if part
    ]
    return ": ".join([printable(decision.case), "; ".join(remarks)]).removesuffix(": ")


def _p_of_eye(decision, rule, eye):
    return rule.head.p_positive(np.array([list(decision.eyes[eye].values())]))[0]


# Name of --format -> function of (decisions, the rule that decided) that yields lines.
FORMATS: dict[str, Callable[[Iterable[AnyDecision], Rule], Iterator[str]]] = {
    "table": table_lines,
    "json": json_lines,
    "csv": csv_lines,
}
