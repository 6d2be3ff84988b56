"""The scorecard itself: every method and both baselines, on the same photographs.

Of both eyes of a patient maps are held against the lesion masks of each eye by itself, at thresholds that both eyes share;
what is taken away or given back, and what the network forgets, is judged by both eyes together.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.colour_scale import stretch_maps
from dr_tf.explain.crop_maps import black
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.scorecard import deletion_insertion
from dr_tf.explain.scorecard.baselines import BASELINES, of_eyes, random_maps, retina
from dr_tf.explain.scorecard.localization import energy, enlarged, overlaps, pointing
from dr_tf.explain.scorecard.masks import any_lesion, read_masks
from dr_tf.explain.scorecard.parameter_randomization import randomize_parameters, rank_correlation
from dr_tf.explain.scorecard.record_images import Examples, by_eye
from dr_tf.fundus.prepare import resize_square
from dr_tf.fundus.synthesis import CAMERAS
from dr_tf.models.heads.head import positive_labels

ANY_LESION = "any lesion"
_BATCH, _FORGOTTEN = 16, 16  # examples at once, and for which the network forgets


@dataclasses.dataclass
class Scores:
    """Of one kind of maps; empty where there was nothing to measure on.

    Against masks there is one number for a photograph, of the rest one for an example: a photograph, or a pair.
    """

    pointing: dict[str, np.ndarray]  # lesion -> 0 or 1
    energy: dict[str, np.ndarray]
    overlaps: dict[str, np.ndarray]  # lesion -> [n, thresholds]
    deletion: np.ndarray  # the area below the probability, better where it is smaller
    insertion: np.ndarray
    randomized: dict[str, np.ndarray]  # what was forgotten down to there -> rank_correlation to the map before


@dataclasses.dataclass
class Scorecard:
    """`rows` of the records are behind each figure: those with masks, those called positive, those of randomize_parameters.

    A pair with masks of both eyes is twice in the first. `patients` are those of a figure's numbers: by lesion, and of
    "positive" and "parameter_randomization".
    """

    dataset: str
    target: str
    scores: dict[str, Scores]
    rows: dict[str, np.ndarray]
    patients: dict[str, np.ndarray]
    synthetic: bool  # whether all photographs were drawn
    unit: str  # what an example is


def build_explainers(model, head, names, output=None):
    """{name: Explainer} of methods, each as METHOD or METHOD@LAYER; all of them are tried."""
    made, known = {}, {}
    for name in names:
        method, _, layer = name.partition("@")
        explainer = Explainer(model, head, output=output, method=method, layer=layer or None)
        if (same := (method, id(explainer.map_layer.layer))) in known:
            raise UserError(f"{known[same]} and {name} are the same maps")
        explainer(black(model))
        made[name], known[same] = explainer, name
    if not made:
        raise UserError("a scorecard is of one method or more")
    return made


def compute_scorecard(made, records, rows, *, most=64, seed=0, on_progress=lambda what: None):
    """A Scorecard of `made` (as `explainers` gives it) on at most so many of these rows.

    Lesions are looked for where the label does not rule the definition of positive out; deletion_insertion are drawn of what the
    network calls positive.
    """
    rows, first = _drawn(rows, most, seed), next(iter(made.values()))
    shown, scores = _Shown(records, rows, first), {}
    for name, maps in _maps(made, shown.x).items():
        likenesses = _forgetful(made[name], shown.some, seed) if name in made else _steadfast(name, shown.some, seed)
        scores[name] = Scores(*_located(maps, shown), *_followed(first, maps, shown, seed), likenesses)
        on_progress(name)
    masked = [i for i, _ in shown.masks]
    kept = {"masks": rows[masked], "positive": rows[shown.positive], "parameter_randomization": rows[: len(shown.some)]}
    drawn = set(records.sources[rows].tolist()) <= set(CAMERAS)
    patients = _patients(records.columns["patient_id"], rows, shown, kept)
    unit = "patient" if records.paired else "photograph"
    return Scorecard(records.name, first.head.positive, scores, kept, patients, drawn, unit)


def _patients(patient_of, rows, shown, kept):
    with_lesion = {}
    for (i, _), lesions in shown.masks.items():
        for lesion in lesions:
            with_lesion.setdefault(lesion, []).append(rows[i])
    named = with_lesion | {name: kept[name] for name in ("positive", "parameter_randomization")}
    return {name: patient_of[those] for name, those in named.items()}


def choose_thresholds(made, records, rows, *, most=64, seed=0):
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
    """{name: {eye: maps at the size of the photographs}}, of the baselines too."""
    maps = {name: _in_batches(lambda x, e=e: stretch_maps(by_eye(e(x).maps)), x) for name, e in made.items()}
    maps |= {name: of_eyes(floor, x.photographs) for name, floor in BASELINES.items()}
    size = next(iter(made.values())).image_size
    return {name: {eye: [enlarged(map, size) for map in each] for eye, each in of.items()} for name, of in maps.items()}


class _Shown:
    """Examples as the network takes them, where the retina is, lesion masks, and who is called positive."""

    def __init__(self, records, rows, explainer):
        size = explainer.image_size
        self.x = Examples.of(records, rows, size)
        self.fields = {eye: [retina(photograph) for photograph in of] for eye, of in self.x.photographs.items()}
        self.masks = _masks(records, rows, explainer.head.positive, size)
        self.positive = np.flatnonzero(_in_batches(explainer.evidence, self.x) > 0)
        self.some = self.x.take(slice(_FORGOTTEN))


def _masks(records, rows, definition, size):
    """{(number of the row, eye): {lesion: mask}}; without eyes whose own label rules the definition out."""
    stored, found = read_masks(records, rows), {}
    asked = {eye: positive_labels(definition, _labels(records, rows, eye)) != 0 for eye in records.eyes}
    for i, row in enumerate(rows.tolist()):
        having = [eye for eye in records.eyes if asked[eye][i] and (row, eye) in stored]
        found |= {(i, eye): _with_any(stored[row, eye], size) for eye in having}
    return found


def _labels(records, rows, eye):
    column_of = {name: f"{eye}/{name}" if eye else name for name in ("grade", "any_dr", "dme", "labels")}
    return {name: records.columns[of][rows] for name, of in column_of.items() if of in records.columns}


def _with_any(masks, size):
    whole = {ANY_LESION: any_lesion(masks)} | masks
    return {name: resize_square(mask.astype(np.uint8) * 255, size) >= 0.2 * 255 for name, mask in whole.items()}


def _in_batches(function, x):
    """What a function says of Examples: [n], or {eye: [n, …]}."""
    said = [function(x.take(slice(start, start + _BATCH)).given()) for start in range(0, len(x), _BATCH)]
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *said)


def _located(maps, shown):
    """(pointing, energy, overlaps), each by lesion."""
    found = ({}, {}, {})
    for (i, eye), lesions in shown.masks.items():
        for lesion, mask in lesions.items():
            for into, figure in zip(found, (pointing, energy, overlaps), strict=True):
                into.setdefault(lesion, []).append(figure(maps[eye][i], mask, shown.fields[eye][i]))
    return [{lesion: np.array(values, float) for lesion, values in into.items()} for into in found]


def _followed(explainer, maps, shown, seed):
    """(deletion, insertion) of the examples that are called positive."""
    x, areas = shown.x, []
    for i in shown.positive:
        both = deletion_insertion.mixtures(x.eyes(x.photographs, i), x.eyes(maps, i), seed=seed)
        odds = [_in_batches(explainer.evidence, x.changed(i, mixed)).astype(np.float64) for mixed in both]
        areas.append([deletion_insertion.area(0.5 * (1 + np.tanh(of / 2))) for of in odds])
    return np.array(areas).reshape(-1, 2).T


def _forgetful(explainer, x, seed):
    before, found = by_eye(explainer(x.given()).maps), {}
    other = None
    for name, network in randomize_parameters(explainer.model, seed=seed):
        other = other or explainer.of(network)
        found[name] = _likenesses(before, by_eye(other(x.given()).maps), x)
    return found


def _steadfast(name, x, seed):
    """Floors do not know what the network forgets: noise is new each time, contrast is what it was."""
    seeds = [{"seed": seed + i} if BASELINES[name] is random_maps else {} for i in (0, 1)]
    before, after = (of_eyes(BASELINES[name], x.photographs, **own) for own in seeds)
    return {"head": _likenesses(before, after, x)}


def _likenesses(before, after, x):
    """Of each example, over the places of all its eyes."""
    whole = [[np.stack(list(x.eyes(maps, i).values())) for i in range(len(x))] for maps in (before, after)]
    return np.array([rank_correlation(*pair) for pair in zip(*whole, strict=True)])
