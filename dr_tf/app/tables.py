"""The answers of a batch as rows of a table, and as CSV and JSON files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dr_tf.app.engine import PatientAnswer
from dr_tf.app.overlays import data_uri, reduced
from dr_tf.app.wording import Wording
from dr_tf.inference.decision import Decision
from dr_tf.inference.formats import as_json, csv_lines
from dr_tf.inference.rule import Rule
from dr_tf.safe_names import printable

_THUMBNAIL_SIDE = 96


def table_rows(answers: Sequence[PatientAnswer], wording: Wording) -> list[dict[str, Any]]:
    """Return one row per patient, by the keys `photograph`, `patient`, `action`, `probability`, `grade`, `remark`."""
    return [_row(answer, wording) for answer in answers]


def _row(answer, wording):
    row = {"photograph": _thumbnail(answer), "patient": printable(answer.patient)}
    if answer.decision is None:
        remark = wording.messages("remark.unused", names=", ".join(map(printable, answer.unused)))
        return row | {"action": "", "probability": None, "grade": None, "remark": remark}
    summary = wording.patient(answer)
    p = answer.decision.p_positive if summary.probability else None
    return row | {
        "action": summary.word,
        "probability": None if p is None else 100 * p,
        "grade": answer.decision.grade,
        "remark": " ".join(summary.advice),
    }


def _thumbnail(answer):
    pictures = [picture for _, one in answer.answers for picture in one.pictures.values()]
    return data_uri(reduced(pictures[0], _THUMBNAIL_SIDE)) if pictures else None


def decisions_of(answers: Iterable[PatientAnswer]) -> list[Decision]:
    """Return the decision on each photograph, or on each pair of a model of both eyes."""
    return [one.decision for answer in answers for _, one in answer.answers]


def csv_file(answers: Iterable[PatientAnswer], rule: Rule) -> bytes:
    """Return the decisions as `dr_tf predict --format csv` writes them. No cell is a formula."""
    lines = "\n".join(csv_lines(decisions_of(answers), rule))
    return f"{lines}\n".encode("utf-8-sig")  # spreadsheets know UTF-8 by its mark


def json_file(answers: Sequence[PatientAnswer]) -> bytes:
    """Return a JSON list of patients: the decision on each, and on each photograph."""
    return json.dumps(list(_as_json(answers)), allow_nan=False, indent=1).encode()


def _as_json(answers: Iterable[PatientAnswer]) -> Iterator[dict[str, Any]]:
    for answer in answers:
        eyes = [{"eye": eye, **as_json(one.decision)} for eye, one in answer.answers]
        decided = None if answer.decision is None else as_json(answer.decision)
        yield {"patient": printable(answer.patient), "decision": decided, "photographs": eyes}
