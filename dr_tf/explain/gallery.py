"""Photographs explained, as a folder: a picture of each, a contact sheet, a page, and all figures as JSON."""

import collections
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib

import numpy as np

from dr_tf import files
from dr_tf.explain.explainer import POSITIVE
from dr_tf.explain.page import page
from dr_tf.explain.pictures import Sheet, panels, shown, side_by_side, write_jpeg
from dr_tf.explain.words import Entry, about, lines, short_line
from dr_tf.inference.case import SINGLE
from dr_tf.inference.formats import as_dict
from dr_tf.inference.predictor import Predictor

PAGE, FIGURES = "explanations.html", "explanations.json"
_A_SHEET = 96


@dataclasses.dataclass(frozen=True)
class Reason:
    """Of one case: the evidence of every target, and where in its photographs that of the one asked for lies."""

    evidence: dict[str, float]
    maps: dict[str, np.ndarray]  # {eye: map}


class _Explaining:
    """A network whose every look leaves its reasons, so that decision and reason are of one pass over the same pixels."""

    def __init__(self, network, explainer, target):
        self._network, self._explainer, self._target, self.reasons = network, explainer, target, collections.deque()

    def __getattr__(self, name):
        return getattr(self._network, name)

    def __call__(self, images):
        found = self._explainer(images, self._target)
        maps = found.maps if isinstance(found.maps, dict) else {SINGLE: found.maps}
        for i in range(len(next(iter(maps.values())))):
            evidence = {name: float(of[i]) for name, of in found.evidence.items()}
            self.reasons.append(Reason(evidence, {eye: of[i] for eye, of in maps.items()}))
        return found.outputs, found.features


def explained(predictor, explainer, cases, target=POSITIVE):
    """Yields (case, {eye: what was read}, Decision, Reason, or None where the case never reached the network), in order."""
    network = _Explaining(predictor.run.network, explainer, target)
    deciding = Predictor(dataclasses.replace(predictor.run, network=network))
    for case, found, decision in deciding.decided(cases):
        seen = any(one.pixels is not None for one in found.values())
        yield case, found, decision, network.reasons.popleft() if seen else None


def write_gallery(folder, predictor, explainer, paths, *, target=POSITIVE, told=lambda entry: None):
    """Writes everything below `folder` and returns the entries; `told` hears of each as soon as it is drawn."""
    folder, target = pathlib.Path(folder), explainer.targets[explainer.number(target)]
    found = zip(paths, _names(paths), explained(predictor, explainer, paths, target), strict=True)
    entries, sheets = [], []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number in itertools.count(1):
            jobs = list(itertools.islice(found, _A_SHEET))
            if not jobs:
                break
            sheet = Sheet()
            for entry, photograph, overlaid in pool.map(lambda job: _drawn(folder, *job, target), jobs):
                sheet.add(photograph, overlaid, short_line(entry))
                entries.append(entry)
                told(entry)
            if len(paths) > 1:
                sheets.append(f"contact_sheet{'' if number == 1 else f'_{number}'}.jpg")
                sheet.write(folder / sheets[-1])
    files.write_json(folder / FIGURES, about(explainer, target) | {"photographs": [_plain(e) for e in entries]})
    files.write_text(folder / PAGE, page(entries, explainer, target, sheets))
    return entries


def _names(paths):
    """A picture's name for each, its photograph's if it can be; never that of a photograph, whatever folder is written to."""
    taken = set()
    for path in paths:
        stem = path.stem
        fitting = (stem if i == 1 else f"{stem}_{i}" for i in itertools.count(1))
        name = next(name for name in fitting if name.lower() not in taken)
        taken.add(name.lower())
        yield f"{name}.explained.jpg"


def _drawn(folder, path, name, decided, target):
    """(Entry, the photograph, the overlay), the latter None for what never reached the network."""
    decision, reason = decided
    if reason is None:
        return Entry(decision, None), None, None
    pictures = panels(shown(path.read_bytes()), reason.map, decision.geometry)
    height, width = pictures[0].shape[:2]
    entry = Entry(decision, reason.evidence, bool(reason.map.any()), name, width / height)
    write_jpeg(folder / name, side_by_side(pictures, lines(entry, target)))
    return entry, pictures[0], pictures[-1]


def _plain(entry):
    more = {"evidence": entry.evidence, "speaks_for_it": entry.speaks, "picture": entry.picture}
    return as_dict(entry.decision) | more
