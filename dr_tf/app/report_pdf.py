"""The report on one patient as a PDF of one page and the pages it needs, drawn by matplotlib."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dr_tf.app.report import EyeReport, Picture, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_A4 = (8.27, 11.69)  # inches
_LEFT, _WIDTH, _TOP = 0.08, 0.84, 0.95
_LINE = 0.0175  # of the page
_COLUMNS = 100  # letters in a line of size 9
_TONES = {"refer": "#b3261e", "clear": "#1b6e4a", "retake": "#8a5300"}


def pdf_report(report: Report) -> bytes:
    """Draw the report. Text is selectable."""
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages

    stream = io.BytesIO()
    metadata = {"Title": f"{report.texts['title']}: {report.summary.title}", "CreationDate": None}
    with matplotlib.rc_context({"pdf.fonttype": 42}), PdfPages(stream, metadata=metadata) as pages:
        first = _Page()
        _draw_head(first, report)
        for eye in report.eyes:
            page = first if eye is report.eyes[0] else _Page()
            _draw_eye(page, eye, report)
            if eye is report.eyes[-1]:
                _draw_model(page, report)
            pages.savefig(page.figure)
    return stream.getvalue()


class _Page:
    """A page that is filled from the top."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_pdf import FigureCanvasPdf
        from matplotlib.figure import Figure

        self.figure: Figure = Figure(figsize=_A4)
        FigureCanvasPdf(self.figure)
        self.y = _TOP

    def text(self, text: str, *, size: float = 9, x: float = _LEFT, **style: object) -> None:
        """Write lines below what is there."""
        for line in textwrap.wrap(text, max(10, round(_COLUMNS * 9 / size * (1 - x + _LEFT)))):
            self.y -= _LINE * size / 9
            self.figure.text(x, self.y, line, size=size, parse_math=False, **style)

    def gap(self, lines: float = 0.6) -> None:
        """Leave space."""
        self.y -= lines * _LINE


def _draw_head(page: _Page, report: Report) -> None:
    summary = report.summary
    page.text(report.texts["title"], color="0.35")
    page.text(summary.title, size=16, weight="bold")
    page.text(f"{report.texts['files']}: {', '.join(report.files)}. {report.texts['made']}", color="0.35")
    page.gap()
    page.text(report.texts["caution"], weight="bold")
    page.gap(2)
    page.text(summary.word, size=30, weight="bold", color=_TONES[summary.action])
    page.gap(0.3)
    page.text(summary.sentence, size=12, weight="bold")
    for line in (*summary.advice, f"{summary.probability} {summary.expectation}", _grade_line(report)):
        page.text(line)


def _grade_line(report):
    return " · ".join(filter(None, (report.summary.grade, report.summary.quality)))


def _draw_eye(page: _Page, eye: EyeReport, report: Report) -> None:
    page.gap(1.2)
    if len(report.eyes) > 1:
        page.text(f"{eye.summary.title}: {eye.summary.word}", size=12, weight="bold")
        for line in (*eye.summary.advice, f"{eye.summary.probability} {eye.summary.grade}"):
            page.text(line)
    for left, right in _pairs(eye.pictures):
        _draw_pictures(page, [picture for picture in (left, right) if picture is not None])
    for chart in eye.summary.charts:
        page.gap()
        page.text(f"{chart.title} {chart.remark}".strip(), weight="bold")
        for bar in chart.bars:
            page.text(f"{bar.name}: {bar.text}", weight="bold" if bar.is_chosen else "normal", x=_LEFT + 0.02)


def _pairs(pictures: tuple[Picture, ...]) -> Iterator[tuple[Picture, Picture | None]]:
    for number in range(0, len(pictures), 2):
        yield pictures[number], pictures[number + 1] if number + 1 < len(pictures) else None


def _draw_pictures(page: _Page, pictures: list[Picture]) -> None:
    page.gap()
    height = 0.0
    for number, picture in enumerate(pictures):
        image = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
        width = 0.41
        tall = min(0.3, width * _A4[0] / _A4[1] * image.shape[0] / image.shape[1])
        axes = page.figure.add_axes((_LEFT + 0.43 * number, page.y - tall, width, tall))
        axes.imshow(image)
        axes.set_axis_off()
        page.figure.text(_LEFT + 0.43 * number, page.y - tall - _LINE, picture.title, size=8, color="0.35", parse_math=False)
        height = max(height, tall)
    page.y -= height + 1.5 * _LINE


def _draw_model(page: _Page, report: Report) -> None:
    page.gap(1.2)
    page.text(report.legend, size=8, color="0.35")
    page.gap()
    page.text(report.texts["model"], weight="bold")
    for name, text in report.model:
        page.text(f"{name}: {text}", size=8)
