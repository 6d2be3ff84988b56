"""Decisions as lines of text, each as soon as it is made: a table for people, JSON lines and CSV for programs.

Each format takes the rule that decided: its heads say which columns there are, also of a case that was not decided on.
"""

import dataclasses
import json

from dr_tf.inference.decision import PatientDecision, grade_name
from dr_tf.safe_names import csv_line, printable

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
)
_PATIENT_COLUMNS = ("patient", "action", "grade", "positive", "p_positive", "threshold", "remark", "photographs")


def as_dict(decision):
    """A Decision or PatientDecision as plain data."""
    if isinstance(decision, PatientDecision):
        return _of_patient(decision)
    fields = dataclasses.asdict(decision)
    fields["images"] = [{"eye": eye, **image} for eye, image in fields["images"].items()]
    more = {"p_positive": decision.p_positive, "threshold": decision.threshold, "missing": list(decision.missing)}
    return fields | more


def _of_patient(decision):
    worse, told = decision.worse, dict.fromkeys(output for _, eye in decision.eyes for output in eye.others)
    return {
        "patient": decision.patient,
        "action": decision.action,
        "grade": decision.grade,
        "positive": worse.positive,
        "p_positive": decision.p_positive,
        "threshold": worse.threshold,
        "others": {output: decision.likeliest(output) for output in told},
        "missing": list(decision.missing),
        "unjudged": list(decision.unjudged),
        "remark": decision.remark,
        "photographs": [{"photograph": d.case, "eye": eye, "action": d.action} for eye, d in decision.eyes],
    }


def json_lines(decisions, rule):
    del rule
    for decision in decisions:
        yield json.dumps(as_dict(decision), allow_nan=False)


def csv_lines(decisions, rule):
    """Empty where there is nothing to say. One header, so all decisions are of cases or all are of patients."""
    header = None
    for decision in decisions:
        flat = _flat(decision, rule)
        if header is None:
            header = list(flat)
            yield csv_line(header)
        yield csv_line(flat.values())


def _flat(decision, rule):
    # Named so that no output, whatever it or its classes are called, hides what decided.
    others = {f"class({output})": decision.likeliest(output) for output in rule.others}
    fields = as_dict(decision)
    if isinstance(decision, PatientDecision):
        fields["photographs"] = " ".join(d["photograph"] for d in fields["photographs"])
        return {name: fields[name] for name in _PATIENT_COLUMNS} | others
    flat = {name: fields[name] for name in _COLUMNS}
    flat |= {f"p({name})": decision.probabilities.get(name) for name in rule.head.classes}
    if len(rule.head.decided) > 1:
        flat |= {name: answer_of(decision, name) for name in rule.head.decided}
    for output in rule.others:
        told = decision.others.get(output, {})
        flat |= {f"p({output}: {name})": told.get(name) for name in rule.heads[output].classes}
    return flat | others


def answer_of(decision, definition):
    """Yes or no; None where nothing could be decided."""
    answer = decision.label_decisions.get(definition)
    return None if answer is None else answer.yes


def table_lines(decisions, rule):
    """Names come last, so that a line need not wait for the longest of them."""
    header = None
    for decision in decisions:
        if header is None:
            header = f"p({rule.head.positive})"
            others = "".join(f"{output:{_width_of(rule, output)}}  " for output in rule.others)
            yield f"{'action':8} {header:>{_width(header)}}  {'grade':18}  {others}of"
        p = "-" if decision.p_positive is None else f"{decision.p_positive:.3f}"
        grade = "-" if decision.grade is None else f"{decision.grade} {grade_name(decision.grade)}"
        others = "".join(_other(decision, rule, output) for output in rule.others)
        yield f"{decision.action:8} {p:>{_width(header)}}  {grade:18}  {others}{_name(decision)}"


def _other(decision, rule, output):
    number = decision.likeliest(output)
    said = "-" if number is None else f"{number} {rule.heads[output].classes[number]}"
    return f"{said:{_width_of(rule, output)}}  "


def _width_of(rule, output):
    return max(len(output), *(len(name) + 2 for name in rule.heads[output].classes))


def _width(header):
    return max(7, len(header))


def _name(decision):
    if isinstance(decision, PatientDecision):
        return printable(decision.patient) + (f": {decision.remark}" if decision.remark else "")
    missing = [f"no photograph of the {eye} eye" for eye in decision.missing]
    labels = (
        [name for name, answer in decision.label_decisions.items() if answer.yes]
        if len(decision.label_decisions) > 1
        else []
    )
    said = [", ".join(labels), decision.reason, *missing]
    return ": ".join([printable(decision.case), "; ".join(part for part in said if part)]).removesuffix(": ")


# Name of --format -> function of (decisions, the rule that decided) that yields lines.
FORMATS = {"table": table_lines, "json": json_lines, "csv": csv_lines}
