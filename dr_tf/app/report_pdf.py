"""The report on one patient as a PDF, drawn by matplotlib."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

from dr_tf.app.overlays import reduced
from dr_tf.app.report import EyeReport, Picture, Report
from dr_tf.app.wording import Chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")

_A4 = (8.27, 11.69)  # inches
_LEFT, _TOP, _BOTTOM = 0.08, 0.96, 0.04
_PICTURE, _PIXELS = 0.41, 700  # width of a picture, of the page and in pixels
_LINE = 0.0165  # of the page
_COLUMNS = 106  # letters in a line of size 9
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

    def text(self, text: str, *, size: float = 9, **style: Any) -> None:
        """Write lines below what is there."""
        letters = _COLUMNS * 9 / size * (0.85 if style.get("weight") == "bold" else 1)
        for line in textwrap.wrap(text, round(letters)):
            self.line(line, _LEFT, self.take(_LINE * size / 9), size=size, **style)

    def line(self, text: str, x: float, y: float, *, size: float = 9, **style: Any) -> None:
        """Write one line at a place of the current page."""
        self.figures[-1].text(x, y, text, size=size, parse_math=False, **style)

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
    pages.gap(1)
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
    for pictures in _pairs(eye.pictures):
        _draw_pictures(pages, pictures)
    for row in _pairs(eye.summary.charts):
        pages.gap()
        height = (3 + max(len(chart.bars) for chart in row)) * _LINE
        top = pages.take(height) + height
        for number, chart in enumerate(row):
            _draw_chart(pages, chart, _LEFT + (_PICTURE + 0.02) * number, top)


def _draw_chart(pages: _Pages, chart: Chart, x: float, y: float) -> None:
    pages.line(chart.title, x, y - _LINE, weight="bold")
    pages.line(chart.remark, x, y - 2 * _LINE, color="0.35")
    for number, bar in enumerate(chart.bars):
        at, weight = y - (number + 3) * _LINE, "bold" if bar.is_chosen else "normal"
        pages.line(bar.name, x, at, weight=weight)
        pages.line(bar.text, x + 0.26, at, weight=weight)


def _pairs(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[first : first + 2] for first in range(0, len(items), 2)]


def _draw_pictures(pages: _Pages, pictures: Sequence[Picture]) -> None:
    pages.gap()
    small = [np.frombuffer(reduced(one.jpeg, _PIXELS), np.uint8) for one in pictures]
    images = [np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)) for jpeg in small]
    height = max(min(0.3, _PICTURE * _A4[0] / _A4[1] * image.shape[0] / image.shape[1]) for image in images)
    y = pages.take(height + 1.5 * _LINE) + 1.5 * _LINE
    for number, (picture, image) in enumerate(zip(pictures, images, strict=True)):
        x = _LEFT + (_PICTURE + 0.02) * number
        axes = pages.figures[-1].add_axes((x, y, _PICTURE, height))
        axes.imshow(image)
        axes.set_axis_off()
        pages.line(picture.title, x, y - _LINE, size=8, color="0.35")


def _draw_model(pages: _Pages, report: Report) -> None:
    pages.gap(1.2)
    pages.text(report.legend, size=8, color="0.35")
    pages.gap()
    pages.text(report.texts["model"], weight="bold")
    for name, text in report.model:
        pages.text(f"{name}: {text}", size=8)
