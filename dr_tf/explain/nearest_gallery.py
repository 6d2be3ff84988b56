"""Write cases with their nearest training cases to a folder: a picture of each, a page, and all values as JSON."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from dr_tf import files
from dr_tf.explain.captions import describe_decision, describe_probability
from dr_tf.explain.gallery import EXPLANATIONS, PAGE, picture_names
from dr_tf.explain.nearest_cases import NEAREST_CASES, NearestCases, TrainingCase, decide_with_nearest_cases
from dr_tf.explain.pictures import display_image, side_by_side, write_jpeg
from dr_tf.fundus.header import BadImageError
from dr_tf.inference.case import Case
from dr_tf.inference.decision import Decision
from dr_tf.inference.formats import as_json
from dr_tf.inference.predictor import Predictor
from dr_tf.rendering import render
from dr_tf.safe_names import printable

_HEIGHT = 360  # of all photographs in a picture, in pixels

Thumbnail = Callable[[str], np.ndarray | None]  # SET/NAME of a training case -> uint8 RGB


@dataclasses.dataclass(frozen=True)
class NearestEntry:
    """A case of the page.

    Attributes:
        decision: The decision on the case.
        nearest: Its nearest training cases; None if the case had no usable image.
        picture: File name of the picture.
        not_drawn: Why a case that was decided has no picture; empty where it has one.
    """

    decision: Decision
    nearest: list[TrainingCase] | None
    picture: str | None = None
    not_drawn: str = ""

    @property
    def problem(self) -> str:
        """Why the case has no explanation; empty where it has one."""
        return self.decision.reason if self.nearest is None else self.not_drawn


def write_nearest_gallery(
    folder: str | os.PathLike,
    predictor: Predictor,
    nearest: NearestCases,
    cases: Sequence[Case],
    *,
    thumbnail: Thumbnail = lambda name: None,
    on_progress: Callable[[NearestEntry], object] = lambda entry: None,
) -> list[NearestEntry]:
    """Decide on cases, find their nearest training cases, and write pictures, page and JSON.

    Args:
        folder: The folder to write to.
        predictor: The predictor.
        nearest: The training cases of its run.
        cases: The cases; their images are paths.
        thumbnail: Returns the photograph of a training case, or None where it is not at hand.
        on_progress: Called with each entry as soon as its picture is written.

    Returns:
        The entries, in the order of the cases.
    """
    folder, entries = pathlib.Path(folder), []
    decided = decide_with_nearest_cases(predictor, nearest, cases)
    for name, (decision, found) in zip(picture_names(cases), decided, strict=True):
        entry = NearestEntry(decision, found)
        if found is not None:
            entry = _draw(folder, entry, name, thumbnail)
        entries.append(entry)
        on_progress(entry)
    contents = {"method": NEAREST_CASES, "cases": [_entry_as_dict(entry) for entry in entries]}
    files.write_json(folder / EXPLANATIONS, contents)
    files.write_text(folder / PAGE, _page(entries))
    return entries


def _draw(folder, entry, name, thumbnail):
    images = [image for image in entry.decision.images.values() if image.geometry]
    try:
        own = [display_image(pathlib.Path(image.photograph).read_bytes(), frame=image.frame) for image in images]
    except (OSError, BadImageError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return dataclasses.replace(entry, not_drawn=f"decided, but not drawn: {reason}")
    found = [thumbnail(case.name) for case in entry.nearest if case.name]
    pictures = [_to_height(picture) for picture in [*own, *found] if picture is not None]
    lines = [describe_decision(entry.decision), *map(describe_training_case, entry.nearest)]
    write_jpeg(folder / name, side_by_side(pictures, lines))
    return dataclasses.replace(entry, picture=name)


def _to_height(picture):
    width = round(_HEIGHT * picture.shape[1] / picture.shape[0])
    return cv2.resize(picture, (width, _HEIGHT), interpolation=cv2.INTER_AREA)


def describe_training_case(case: TrainingCase) -> str:
    """Return one line: "moderate NPDR, distance 3.21, idrid/train_017"."""
    return ", ".join([case.label, f"distance {case.distance:.3g}", *([printable(case.name)] if case.name else [])])


def _entry_as_dict(entry: NearestEntry) -> dict[str, Any]:
    nearest = None if entry.nearest is None else [dataclasses.asdict(case) for case in entry.nearest]
    return as_json(entry.decision) | {"nearest": nearest, "picture": entry.picture, "undrawn": entry.not_drawn}


def _page(entries):
    return render(
        "nearest_cases.html",
        entries=[
            {
                "case": printable(entry.decision.case),
                "action": entry.decision.action,
                "verdict": describe_probability(entry.decision),
                "not_drawn": entry.not_drawn,
                "picture": entry.picture,
                "nearest": [
                    (printable(case.name) if case.name else "", case.label, f"{case.distance:.3g}")
                    for case in entry.nearest or ()
                ],
            }
            for entry in entries
        ],
    )
