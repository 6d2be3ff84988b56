"""The report on one patient: what it says, and the HTML page to print. `report_pdf` draws the same content as a PDF."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator

from dr_tf import __version__
from dr_tf.app.engine import Answer, Engine, PatientAnswer
from dr_tf.app.model_facts import model_facts
from dr_tf.app.overlays import data_uri, overlaid
from dr_tf.app.wording import Summary, Wording, short_name
from dr_tf.rendering import render


@dataclasses.dataclass(frozen=True)
class Picture:
    """A JPEG with its title."""

    title: str
    jpeg: bytes

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return data_uri(self.jpeg)


@dataclasses.dataclass(frozen=True)
class EyeReport:
    """One photograph, or one eye of a pair: its decision in words, and its pictures."""

    summary: Summary
    pictures: tuple[Picture, ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """What a report says.

    Attributes:
        summary: the decision on the patient.
        eyes: each photograph.
        is_pair: whether one decision is about both eyes.
        files: names of the photographs.
        model: (name, text) rows about the model.
        texts: the fixed words: title, files, made, model, caution.
        legend: what the colours mean; empty without a map.
        language: of the words.
    """

    summary: Summary
    eyes: tuple[EyeReport, ...]
    is_pair: bool
    files: tuple[str, ...]
    model: tuple[tuple[str, str], ...]
    texts: dict[str, str]
    legend: str
    language: str


def make_report(answer: PatientAnswer, engine: Engine, wording: Wording) -> Report:
    """Put the answer about a patient together as a report."""
    t, today = wording.messages, datetime.date.today().isoformat()
    texts = {name: t(f"report.{name}") for name in ("title", "files", "model")}
    texts |= {"made": t("report.made", version=__version__, date=today), "caution": t("page.caution")}
    answers = [one for _, one in answer.answers]
    has_map = any(one.maps for one in answers)
    scale = "map.one_scale" if all(one.one_scale for one in answers) else "map.own_scale"
    return Report(
        summary=wording.patient(answer),
        eyes=tuple(_eyes(answer, engine, wording)),
        is_pair=engine.paired,
        files=tuple(short_name(one.decision.case) for one in answers),
        model=tuple(model_facts(engine, t)),
        texts=texts,
        legend=f"{t(scale)} {t('map.caution')}" if has_map else "",
        language=t.language,
    )


def _eyes(answer: PatientAnswer, engine: Engine, wording: Wording) -> Iterator[EyeReport]:
    for eye, one in answer.answers:
        title = wording.messages(f"eye.{eye}")
        pictures = [picture for key in one.pictures for picture in _pictures(one, key, wording, engine.paired)]
        yield EyeReport(wording.decision(one.decision, title), tuple(pictures))


def _pictures(answer: Answer, eye: str, wording: Wording, paired: bool) -> Iterator[Picture]:
    t, photograph = wording.messages, answer.pictures[eye]
    of_eye = f"{t(f'eye.{eye}')}: " if paired else ""
    yield Picture(of_eye + t("map.photograph"), photograph)
    geometry = answer.decision.images[eye].geometry
    if eye in answer.maps and geometry is not None:
        yield Picture(of_eye + t("map.overlay"), overlaid(answer.maps[eye], geometry, photograph))


def html_report(report: Report) -> bytes:
    """Return the report as an HTML page that needs no other file."""
    fields = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    return render("app_report.html", **fields).encode()
