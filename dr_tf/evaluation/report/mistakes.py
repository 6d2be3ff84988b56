"""The worst errors of an evaluation as a gallery of images, each with its class-activation map where there is one."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.report.display_names import class_name, positive
from dr_tf.rendering import percent
from dr_tf.safe_names import printable

WIDTH = 320  # pixels of an image
PER_GROUP = 10

ReadImage = Callable[[str], bytes | None]
DrawOverlays = Callable[[list[str]], dict[str, bytes]]


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A wrongly decided case: its pictures as data URIs (None where there is none), and lines of text."""

    name: str
    image: str | None
    overlay: str | None
    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class MistakeGallery:
    """Groups of mistakes, by title, each beginning with the worst.

    Args:
        groups: Title of each group -> its mistakes. Groups without mistakes are left out.
        has_overlays: Whether the images have class-activation maps beside them.
        legend: What the colours of the maps mean.
    """

    groups: dict[str, list[Mistake]]
    has_overlays: bool
    legend: str


def worst_mistakes(predictions: Predictions, per_group: int = PER_GROUP) -> dict[str, np.ndarray]:
    """Find the worst mistakes, without repeating any.

    Args:
        predictions: The predictions with their labels.
        per_group: The largest number of mistakes in a group.

    Returns:
        {title of the group: rows of `predictions`, the worst first}.
    """
    p = predictions
    false_negative = (p.truth_positive == 1) & ~p.refer
    false_positive = (p.truth_positive == 0) & p.refer
    groups = {
        f"False negatives: {positive(p.positive)}, not referred": _first(false_negative, p.p_positive, per_group),
        f"False positives: referred without {positive(p.positive)}": _first(false_positive, -p.p_positive, per_group),
    }
    is_new = ~np.isin(np.arange(len(p)), np.concatenate(list(groups.values())))
    if p.multi_label:
        wrong_labels = (p.truth != p.predicted).sum(axis=1)
        rows = (wrong_labels > 1) & p.labelled & is_new
        return groups | {"Most labels wrong": _first(rows, -wrong_labels, per_group)}
    distance = np.abs(p.truth - p.predicted)
    rows = (distance > 1) & p.labelled & is_new
    return groups | {"Predicted class furthest from the true class": _first(rows, -distance, per_group)}


def _first(rows: np.ndarray, key: np.ndarray, n: int) -> np.ndarray:
    rows = np.flatnonzero(rows)
    return rows[np.argsort(key[rows], kind="stable")][:n]


def mistake_gallery(
    predictions: Predictions,
    images: ReadImage | None,
    overlays: DrawOverlays | None = None,
    overlay_legend: Callable[[], str] | None = None,
) -> MistakeGallery:
    """Prepare the gallery of the worst mistakes.

    Args:
        predictions: The predictions with their labels.
        images: Returns the JPEG or PNG file of a case id, or None; None where there are no images.
        overlays: Returns {id: JPEG file} of these images under their class-activation maps. It is called once, with all
            ids that are shown. None where there are no maps.
        overlay_legend: Called after `overlays`, returns what the colours of the maps mean.
    """
    rows_of = {title: rows for title, rows in worst_mistakes(predictions).items() if len(rows)}
    names = [str(predictions.ids[row]) for rows in rows_of.values() for row in rows]
    overlay_of = overlays(names) if overlays and names else {}

    def mistake(row: int) -> Mistake:
        name = str(predictions.ids[row])
        image = images(name) if images else None
        return Mistake(printable(name), _data_uri(image), _data_uri(overlay_of.get(name)), _lines(predictions, row))

    groups = {title: [mistake(row) for row in rows] for title, rows in rows_of.items()}
    legend = overlay_legend() if overlay_of and overlay_legend else ""
    return MistakeGallery(groups, bool(overlay_of), legend)


def _lines(p: Predictions, row: int) -> tuple[str, ...]:
    lines = [_classes("True class", p.truth[row], p), _classes("Predicted class", p.predicted[row], p)]
    if p.prediction_intervals is not None:
        low, high = p.prediction_intervals[row]
        lines.append(f"Prediction set: {p.classes[low]}" + (f" to {p.classes[high]}" if low < high else ""))
    return (*filter(None, lines), f"P(positive): {percent(p.p_positive[row])}")


def _classes(heading: str, label: np.ndarray, p: Predictions) -> str:
    """A class or the labels that are present; empty where that is not known."""
    if np.any(label < 0):
        return ""
    if not p.multi_label:
        return f"{heading}: {p.classes[label]}"
    names = [class_name(name) for name, is_present in zip(p.classes, label, strict=True) if is_present]
    return f"{heading.replace('class', 'labels')}: {', '.join(names) or 'none'}"


def _data_uri(encoded: bytes | None) -> str | None:
    small = encoded and _shrink(encoded)
    return f"data:image/jpeg;base64,{base64.b64encode(small).decode()}" if small else None


def _shrink(encoded: bytes) -> bytes | None:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return None
    scale = WIDTH / image.shape[1]  # by the width, as the two eyes of a patient stand one above the other
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
