"""The report on one patient as a PDF, drawn by matplotlib."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from dr_tf.app.report import EyeReport, Picture, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_A4 = (8.27, 11.69)  # inches
_LEFT, _TOP, _BOTTOM = 0.08, 0.95, 0.05
_PICTURE = 0.41  # width of a picture
_LINE = 0.0175  # of the page
_COLUMNS = 100  # letters in a line of size 9
_TONES = {"refer": "#b3261e", "clear": "#1b6e4a", "retake": "#8a5300"}


def pdf_report(report: Report) -> bytes:
    """Draw the report. Text is selectable."""
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages

    stream = io.BytesIO()
    metadata = {"Title": f"{report.texts['title']}: {report.summary.title}", "CreationDate": None}
    with matplotlib.rc_context({"pdf.fonttype": 42}), PdfPages(stream, metadata=metadata) as file:
        for page in _draw(report).figures:
            file.savefig(page)
    return stream.getvalue()


def _draw(report: Report) -> _Pages:
    pages = _Pages()
    _draw_head(pages, report)
    for eye in report.eyes:
        if eye is not report.eyes[0]:
            pages.start()
        _draw_eye(pages, eye, report)
    _draw_model(pages, report)
    return pages


class _Pages:
    """Pages that are filled from the top; what does not fit goes on the next."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.start()

    def start(self) -> None:
        """Start a page."""
        from matplotlib.backends.backend_pdf import FigureCanvasPdf
        from matplotlib.figure import Figure

        self.figures.append(Figure(figsize=_A4))
        FigureCanvasPdf(self.figures[-1])
        self.y = _TOP

    def take(self, height: float) -> float:
        """Return the lower edge of the next part of this height."""
        if self.y - height < _BOTTOM:
            self.start()
        self.y -= height
        return self.y

    def text(self, text: str, *, size: float = 9, x: float = _LEFT, **style: Any) -> None:
        """Write lines below what is there."""
        for line in textwrap.wrap(text, max(10, round(_COLUMNS * 9 / size * (1 - x + _LEFT)))):
            y = self.take(_LINE * size / 9)
            self.figures[-1].text(x, y, line, size=size, parse_math=False, **style)

    def gap(self, lines: float = 0.6) -> None:
        """Leave space."""
        self.y -= lines * _LINE


def _draw_head(pages: _Pages, report: Report) -> None:
    summary = report.summary
    pages.text(report.texts["title"], color="0.35")
    pages.text(summary.title, size=16, weight="bold")
    pages.text(f"{report.texts['files']}: {', '.join(report.files)}. {report.texts['made']}", color="0.35")
    pages.gap()
    pages.text(report.texts["caution"], weight="bold")
    pages.gap(2)
    pages.text(summary.word, size=30, weight="bold", color=_TONES[summary.action])
    pages.gap(0.3)
    pages.text(summary.sentence, size=12, weight="bold")
    for line in (*summary.advice, f"{summary.probability} {summary.expectation}", _grade_line(report)):
        pages.text(line)


def _grade_line(report):
    return " · ".join(filter(None, (report.summary.grade, report.summary.quality, report.summary.basis)))


def _draw_eye(pages: _Pages, eye: EyeReport, report: Report) -> None:
    pages.gap(1.2)
    if len(report.eyes) > 1:
        pages.text(f"{eye.summary.title}: {eye.summary.word}", size=12, weight="bold")
        for line in (*eye.summary.advice, f"{eye.summary.probability} {eye.summary.grade}"):
            pages.text(line)
    for left, right in _pairs(eye.pictures):
        _draw_pictures(pages, [picture for picture in (left, right) if picture is not None])
    for chart in eye.summary.charts:
        pages.gap()
        pages.text(f"{chart.title} {chart.remark}".strip(), weight="bold")
        for bar in chart.bars:
            pages.text(f"{bar.name}: {bar.text}", weight="bold" if bar.is_chosen else "normal", x=_LEFT + 0.02)


def _pairs(pictures: tuple[Picture, ...]) -> Iterator[tuple[Picture, Picture | None]]:
    for number in range(0, len(pictures), 2):
        yield pictures[number], pictures[number + 1] if number + 1 < len(pictures) else None


def _draw_pictures(pages: _Pages, pictures: list[Picture]) -> None:
    pages.gap()
    images = [cv2.imdecode(np.frombuffer(one.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) for one in pictures]
    height = max(min(0.3, _PICTURE * _A4[0] / _A4[1] * image.shape[0] / image.shape[1]) for image in images)
    y = pages.take(height + 1.5 * _LINE) + 1.5 * _LINE
    for number, (picture, image) in enumerate(zip(pictures, images, strict=True)):
        x = _LEFT + (_PICTURE + 0.02) * number
        axes = pages.figures[-1].add_axes((x, y, _PICTURE, height))
        axes.imshow(image)
        axes.set_axis_off()
        pages.figures[-1].text(x, y - _LINE, picture.title, size=8, color="0.35", parse_math=False)


def _draw_model(pages: _Pages, report: Report) -> None:
    pages.gap(1.2)
    pages.text(report.legend, size=8, color="0.35")
    pages.gap()
    pages.text(report.texts["model"], weight="bold")
    for name, text in report.model:
        pages.text(f"{name}: {text}", size=8)
