"""Write explained cases to a folder: a picture of each, contact sheets, a page, and all values as JSON."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from dr_tf import files
from dr_tf.console import is_installed
from dr_tf.explain.captions import Entry, map_settings, picture_captions, tile_caption
from dr_tf.explain.colour_scale import MapScale, full_colour_value, scale_caption, scale_maps
from dr_tf.explain.decide_and_explain import decide_and_explain
from dr_tf.explain.explanation import POSITIVE
from dr_tf.explain.pictures import (
    ContactSheet,
    display_image,
    draw_colour_keys,
    draw_panels,
    side_by_side,
    write_jpeg,
)
from dr_tf.fundus.header import BadImageError
from dr_tf.inference.case import Case
from dr_tf.inference.formats import as_json
from dr_tf.safe_names import file_stem

if TYPE_CHECKING:
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.export_explainer import ExportExplainer
    from dr_tf.inference.predictor import Predictor

PAGE, EXPLANATIONS = "explanations.html", "explanations.json"
_TILES_PER_SHEET = 96
_PAIRED_WIDTH = 480  # of a panel, in pixels
_MAX_STEM = 180  # bytes of a file name before its ending: 255 are allowed, and the name while it is written is longer


def write_gallery(
    folder: str | os.PathLike,
    predictor: Predictor,
    explainer: Explainer | ExportExplainer,
    cases: Sequence[Case],
    *,
    target: str | int = POSITIVE,
    scale: MapScale | None = None,
    on_progress: Callable[[Entry], object] = lambda entry: None,
) -> list[Entry]:
    """Decide on cases, explain them, and write pictures, contact sheets, page and JSON.

    Args:
        folder: The folder to write to.
        predictor: The predictor.
        explainer: An explainer of the predictor's network.
        cases: The cases; their images are paths.
        target: The target to explain.
        scale: The colour scale of the run, as `read_scale` returns it. Without an entry for the target, method and
            layer each map is stretched to its own maximum, and the captions state that.
        on_progress: Called with each entry as soon as its picture is written.

    Returns:
        The entries, in the order of the cases.
    """
    folder, name = pathlib.Path(folder), explainer.targets[explainer.target_index(target)]
    full_colour = full_colour_value(scale, explainer, name)
    tracked = _TrackedCases(cases)
    explained = zip(picture_names(cases), decide_and_explain(predictor, explainer, tracked, name), strict=True)
    jobs = ((*job, tracked.file_states.popleft()) for job in explained)
    write = functools.partial(
        _write_picture, folder, target=name, full_colour=full_colour, by_target=explainer.by_target
    )
    entries: list[Entry] = []
    sheets: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number in itertools.count(1):
            some = list(itertools.islice(jobs, _TILES_PER_SHEET))
            if not some:
                break
            sheet = ContactSheet()
            for entry, image, overlaid in pool.map(write, some):
                sheet.add(image, overlaid, tile_caption(entry))
                entries.append(entry)
                on_progress(entry)
            if len(cases) > 1:
                sheets.append(f"contact_sheet{'' if number == 1 else f'_{number}'}.jpg")
                sheet.write(folder / sheets[-1])
    settings = map_settings(explainer, name, full_colour)
    files.write_json(folder / EXPLANATIONS, settings | {"cases": [_entry_as_dict(entry) for entry in entries]})
    if is_installed("jinja2"):  # a base install has pictures and JSON, but no page
        from dr_tf.explain.page import explanation_page

        files.write_text(folder / PAGE, explanation_page(entries, explainer, name, full_colour, sheets))
    return entries


class _TrackedCases:
    """Iterates over cases, and keeps the state of their files, {path: state}, at the moment each case is handed out."""

    def __init__(self, cases: Sequence[Case]):
        self._cases = cases
        self.file_states: collections.deque[dict[str, Any]] = collections.deque()

    def __iter__(self) -> Iterator[Case]:
        for case in self._cases:
            self.file_states.append({str(path): _state(path) for paths in case.images.values() for path in paths})
            yield case


def _state(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def picture_names(cases: Sequence[Case]) -> Iterator[str]:
    """Yield a unique file name per case. Its ending differs from any image's, so no input file can be overwritten."""
    taken = set()
    for case in cases:
        stem = file_stem(pathlib.Path(case.name).stem, _MAX_STEM)
        candidates = (stem if i == 1 else f"{stem}_{i}" for i in itertools.count(1))
        name = next(name for name in candidates if name.lower() not in taken)
        taken.add(name.lower())
        yield f"{name}.explained.jpg"


def _write_picture(folder, job, *, target, full_colour, by_target):
    """Write the picture of a case; the eyes of a pair are stacked vertically.

    Returns:
        (entry, image, overlay). The last two are None if the case had no usable image, or if its files have changed.
    """
    picture_name, (_, decision, explanation), file_states = job
    if explanation is None:
        return Entry(decision, None), None, None
    batch = {eye: map[None] for eye, map in explanation.maps.items()}  # scale_maps takes batches
    colours = {eye: maps[0] for eye, maps in scale_maps(batch, full_colour).items()}
    peak = None if full_colour is None else max(float(map.max()) for map in colours.values())
    has_evidence = any(bool(map.any()) for map in explanation.maps.values())
    entry = Entry(decision, explanation.evidence, has_evidence, peak, by_target=by_target)
    try:
        rows = [
            _panels_of_eye(image, file_states, colours[eye]) for eye, image in decision.images.items() if image.geometry
        ]
        panels = [np.vstack(eyes) for eyes in zip(*rows, strict=True)]
    except (OSError, BadImageError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return dataclasses.replace(entry, not_drawn=f"decided, but not drawn: {reason}"), None, None
    height, width = panels[0].shape[:2]
    entry = dataclasses.replace(entry, picture=picture_name, aspect=width / height)
    row = side_by_side(panels, [], below=draw_colour_keys(width, scale_caption(full_colour)))
    write_jpeg(folder / picture_name, side_by_side([row], picture_captions(entry, target)))
    return entry, panels[0], panels[-1]


def _panels_of_eye(image_info, file_states, colours):
    image = _read_unchanged(image_info, file_states)
    if len(file_states) > 1:  # pairs: both eyes get the same width
        height = round(_PAIRED_WIDTH * image.shape[0] / image.shape[1])
        image = cv2.resize(image, (_PAIRED_WIDTH, height), interpolation=cv2.INTER_AREA)
    return draw_panels(image, colours, image_info.geometry)


def _read_unchanged(image_info, file_states):
    """Read an image; refuse a file that has changed since the decision."""
    path = image_info.photograph
    data = pathlib.Path(path).read_bytes()
    if _state(path) != file_states[path]:
        raise BadImageError("the file has changed since the decision")
    return display_image(data, frame=image_info.frame)


def _entry_as_dict(entry):
    explanation = {
        "evidence": entry.evidence,
        "speaks_for_it": entry.has_evidence,
        "strongest": entry.peak,
        "picture": entry.picture,
        "undrawn": entry.not_drawn,
    }
    return as_json(entry.decision) | explanation
