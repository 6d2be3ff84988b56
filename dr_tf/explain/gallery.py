"""Photographs explain_crops, as a folder: a picture of each, a contact sheet, a page, and all figures as JSON."""

import collections
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib

import cv2
import numpy as np

from dr_tf import files
from dr_tf.explain.captions import Entry, about, lines, short_line
from dr_tf.explain.colour_scale import coloured, full_colour, words
from dr_tf.explain.decide_and_explain import decide_and_explain
from dr_tf.explain.explainer import POSITIVE
from dr_tf.explain.page import page
from dr_tf.explain.pictures import Sheet, keys, panels, shown, side_by_side, write_jpeg
from dr_tf.fundus.header import BadPhotographError
from dr_tf.inference.formats import as_dict
from dr_tf.safe_names import file_stem, printable

PAGE, FIGURES = "explanations.html", "explanations.json"
_A_SHEET = 96
_PAIRED_WIDTH = 480  # pixels of a panel
_LONGEST = 180  # bytes of a picture's name before its ending: 255 are allowed, and the unfinished file's is longer


def write_gallery(folder, predictor, explainer, cases, *, target=POSITIVE, fitted=None, told=lambda entry: None):
    """Writes everything below `folder` and returns the entries; `told` hears of each as soon as it is drawn.

    `fitted`: what `scale.read_scale` gave of the run; without it, or where it has none of this target, method and layer,
    each map is stretched to its own strongest place, and pictures and page say so.
    """
    folder, target = pathlib.Path(folder), explainer.targets[explainer.number(target)]
    full = full_colour(fitted, explainer, target)
    seen = _Seen(cases)
    found = zip(_names(cases), decide_and_explain(predictor, explainer, seen, target), strict=True)
    jobs, entries, sheets = ((*job, seen.states.popleft()) for job in found), [], []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number in itertools.count(1):
            some = list(itertools.islice(jobs, _A_SHEET))
            if not some:
                break
            sheet = Sheet()
            for entry, photograph, overlaid in pool.map(lambda job: _drawn(folder, *job, target, full), some):
                sheet.add(photograph, overlaid, short_line(entry))
                entries.append(entry)
                told(entry)
            if len(cases) > 1:
                sheets.append(f"contact_sheet{'' if number == 1 else f'_{number}'}.jpg")
                sheet.write(folder / sheets[-1])
    figures = about(explainer, target, full) | {"cases": [_plain(e) for e in entries]}
    files.write_json(folder / FIGURES, figures)
    files.write_text(folder / PAGE, page(entries, explainer, target, full, sheets))
    return entries


class _Seen:
    """Cases as they are given away to be read, and the state, {path: state}, that their files were in by then."""

    def __init__(self, cases):
        self._cases, self.states = cases, collections.deque()

    def __iter__(self):
        for case in self._cases:
            self.states.append({str(path): _state(path) for of in case.photographs.values() for path in of})
            yield case


def _state(path):
    try:
        known = os.stat(path)
    except OSError:
        return None
    return known.st_ino, known.st_size, known.st_mtime_ns


def _names(cases):
    """A picture's name for each, its case's if it can be; never that of a photograph, whatever folder is written to."""
    taken = set()
    for case in cases:
        stem = file_stem(pathlib.Path(case.name).stem, _LONGEST)
        fitting = (stem if i == 1 else f"{stem}_{i}" for i in itertools.count(1))
        name = next(name for name in fitting if name.lower() not in taken)
        taken.add(name.lower())
        yield f"{name}.explain_crops.jpg"


def _drawn(folder, name, decided, states, target, full):
    """(Entry, the photographs, the overlay), the latter None for what never reached the network, or is no more as it was.

    The eyes of a pair stand one above the other.
    """
    _, decision, reason = decided
    if reason is None:
        return Entry(decision, None), None, None
    # As one of a batch, for that is what maps come as.
    colours = {eye: of[0] for eye, of in coloured({eye: of[None] for eye, of in reason.maps.items()}, full).items()}
    strongest = None if full is None else max(float(of.max()) for of in colours.values())
    entry = Entry(decision, reason.evidence, any(bool(of.any()) for of in reason.maps.values()), strongest)
    try:
        rows = [_panels(image, states, colours[eye]) for eye, image in decision.images.items() if image.geometry]
        pictures = [np.vstack(eyes) for eyes in zip(*rows, strict=True)]
    except (OSError, BadPhotographError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        return dataclasses.replace(entry, undrawn=f"decided, but not drawn: {what}"), None, None
    height, width = pictures[0].shape[:2]
    entry = dataclasses.replace(entry, picture=name, aspect=width / height)
    row = side_by_side(pictures, [], below=keys(width, words(full)))
    write_jpeg(folder / name, side_by_side([row], lines(entry, target)))
    return entry, pictures[0], pictures[-1]


def _panels(image, states, colours):
    """Of one photograph; those of a pair are all of one width."""
    photograph = _as_decided(image.photograph, states)
    if len(states) > 1:
        height = round(_PAIRED_WIDTH * photograph.shape[0] / photograph.shape[1])
        photograph = cv2.resize(photograph, (_PAIRED_WIDTH, height), interpolation=cv2.INTER_AREA)
    return panels(photograph, colours, image.geometry)


def _as_decided(path, states):
    """The photograph; refused where the file is not the one that was decided on."""
    data = pathlib.Path(path).read_bytes()
    if _state(path) != states[path]:
        raise BadPhotographError("the file changed meanwhile")
    return shown(data)


def _plain(entry):
    more = {
        "case": printable(entry.decision.case),
        "evidence": entry.evidence,
        "speaks_for_it": entry.speaks,
        "strongest": entry.strongest,
        "picture": entry.picture,
        "undrawn": entry.undrawn,
    }
    plain = as_dict(entry.decision)
    images = [image | {"photograph": printable(image["photograph"])} for image in plain["images"]]
    return plain | {"images": images} | more
