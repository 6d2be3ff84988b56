"""The scorecard itself: every method and both floors, on the same photographs."""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.scale import stretched
from dr_tf.explain.scorecard import curves
from dr_tf.explain.scorecard.floors import FLOORS, random_maps, retina
from dr_tf.explain.scorecard.localization import energy, enlarged, overlaps, pointing
from dr_tf.explain.scorecard.masks import any_lesion, read_masks
from dr_tf.explain.scorecard.randomization import forgetting, likeness
from dr_tf.fundus.prepare import resized
from dr_tf.fundus.synthesis import CAMERAS
from dr_tf.models.heads.head import positives

ANY = "any lesion"
_BATCH, _FORGOTTEN = 16, 16  # photographs at once, and for which the network forgets


@dataclasses.dataclass
class Scores:
    """Of one kind of maps, one number a photograph; empty where there was nothing to measure on."""

    pointing: dict[str, np.ndarray]  # lesion -> 0 or 1
    energy: dict[str, np.ndarray]
    overlaps: dict[str, np.ndarray]  # lesion -> [n, thresholds]
    deletion: np.ndarray  # the area below the probability, better where it is smaller
    insertion: np.ndarray
    randomized: dict[str, np.ndarray]  # what was forgotten down to there -> likeness to the map before


@dataclasses.dataclass
class Scorecard:
    """`rows` of the records are behind each figure: those with masks, those called positive, those of forgetting.

    `patients` are those of a figure's photographs: by lesion, and of "positive" and "forgetting".
    """

    dataset: str
    target: str
    scores: dict[str, Scores]
    rows: dict[str, np.ndarray]
    patients: dict[str, np.ndarray]
    synthetic: bool  # whether all photographs were drawn


def explainers(model, head, names, output=None):
    """{name: Explainer} of methods, each as METHOD or METHOD@LAYER; all of them are tried."""
    made, known = {}, {}
    for name in names:
        method, _, layer = name.partition("@")
        explainer = Explainer(model, head, output=output, method=method, layer=layer or None)
        if (same := (method, id(explainer.place.layer))) in known:
            raise UserError(f"{known[same]} and {name} are the same maps")
        explainer(np.zeros((1, explainer.image_size, explainer.image_size, 3), np.uint8))
        made[name], known[same] = explainer, name
    if not made:
        raise UserError("a scorecard is of one method or more")
    return made


def measure(made, records, rows, *, most=64, seed=0, told=lambda what: None):
    """A Scorecard of `made` (as `explainers` gives it) on at most so many of these rows of single photographs.

    Lesions are looked for where the label does not rule the definition of positive out; curves are drawn of what the
    network calls positive.
    """
    rows, first = _drawn(rows, most, seed), next(iter(made.values()))
    shown, scores = _Shown(records, rows, first), {}
    for name, maps in _maps(made, shown.x).items():
        likenesses = _forgetful(made[name], shown.some, seed) if name in made else _steadfast(name, shown.some, seed)
        scores[name] = Scores(*_located(maps, shown), *_followed(first, maps, shown, seed), likenesses)
        told(name)
    kept = {"masks": rows[list(shown.masks)], "positive": rows[shown.positive], "forgetting": rows[: len(shown.some)]}
    drawn = set(records.columns["source"][rows].tolist()) <= set(CAMERAS)
    patients = _patients(records.columns["patient_id"], rows, shown, kept)
    return Scorecard(records.name, first.head.positive, scores, kept, patients, drawn)


def _patients(patient_of, rows, shown, kept):
    with_lesion = {}
    for i, lesions in shown.masks.items():
        for lesion in lesions:
            with_lesion.setdefault(lesion, []).append(rows[i])
    named = with_lesion | {name: kept[name] for name in ("positive", "forgetting")}
    return {name: patient_of[those] for name, those in named.items()}


def chosen_thresholds(made, records, rows, *, most=64, seed=0):
    """{(maps, lesion): number of the threshold} at which they overlap most: to be taken from validation, for test."""
    shown = _Shown(records, _drawn(rows, most, seed), next(iter(made.values())))
    overlapping = {name: _located(maps, shown)[2] for name, maps in _maps(made, shown.x).items()}
    return {
        (name, lesion): int(values.mean(axis=0).argmax())
        for name, of_lesions in overlapping.items()
        for lesion, values in of_lesions.items()
    }


def _drawn(rows, most, seed):
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def _maps(made, x):
    """{name: maps at the size of the photographs}, of the floors too."""
    maps = {name: _in_batches(lambda x, e=e: stretched(e(x).maps), x) for name, e in made.items()}
    maps |= {name: draw(x) for name, draw in FLOORS.items()}
    return {name: [enlarged(map, x.shape[1]) for map in of] for name, of in maps.items()}


class _Shown:
    """Photographs as the network takes them, where the retina is, lesion masks, and who is called positive."""

    def __init__(self, records, rows, explainer):
        size = explainer.image_size
        self.x = np.stack([resized(records.photograph(row), size) for row in rows])
        self.fields = [retina(photograph) for photograph in self.x]
        told = positives(explainer.head.positive, {name: records.columns[name][rows] for name in _labels(records)})
        stored = read_masks(records, rows[told != 0])
        self.masks = {i: _with_any(stored[int(row)], size) for i, row in enumerate(rows) if int(row) in stored}
        self.positive = np.flatnonzero(_in_batches(explainer.evidence, self.x) > 0)
        self.some = self.x[:_FORGOTTEN]


def _labels(records):
    return [name for name in ("grade", "any_dr", "dme", "labels") if name in records.columns]


def _with_any(masks, size):
    whole = {ANY: any_lesion(masks)} | masks
    return {name: resized(mask.astype(np.uint8) * 255, size) >= 0.2 * 255 for name, mask in whole.items()}


def _in_batches(function, x):
    return np.concatenate([function(x[start : start + _BATCH]) for start in range(0, len(x), _BATCH)])


def _located(maps, shown):
    """(pointing, energy, overlaps), each by lesion."""
    found = ({}, {}, {})
    for i, lesions in shown.masks.items():
        for lesion, mask in lesions.items():
            for into, figure in zip(found, (pointing, energy, overlaps), strict=True):
                into.setdefault(lesion, []).append(figure(maps[i], mask, shown.fields[i]))
    return [{lesion: np.array(values, float) for lesion, values in into.items()} for into in found]


def _followed(explainer, maps, shown, seed):
    """(deletion, insertion) of the photographs that are called positive."""
    areas = []
    for i in shown.positive:
        mixed = np.concatenate(curves.mixtures(shown.x[i], maps[i], seed=seed))
        odds = _in_batches(explainer.evidence, mixed).astype(np.float64)
        areas.append([curves.area(half) for half in np.split(0.5 * (1 + np.tanh(odds / 2)), 2)])
    return np.array(areas).reshape(-1, 2).T


def _forgetful(explainer, x, seed):
    before, found = explainer(x).maps, {}
    other = None
    for name, network in forgetting(explainer.model, seed=seed):
        other = other or explainer.of(network)
        after = other(x).maps
        found[name] = np.array([likeness(*pair) for pair in zip(before, after, strict=True)])
    return found


def _steadfast(name, x, seed):
    """Floors do not know what the network forgets: noise is new each time, contrast is what it was."""
    before, after = (
        (random_maps(x, seed=seed + i) if FLOORS[name] is random_maps else FLOORS[name](x)) for i in (0, 1)
    )
    return {"head": np.array([likeness(*pair) for pair in zip(before, after, strict=True)])}
