"""Compute the scorecard: every class-activation method and both baselines on the same images.

For paired eyes, maps are compared with the lesion masks of each eye separately, at thresholds common to both eyes.
Deletion, insertion and parameter randomization use both eyes together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from dr_tf.console import UserError
from dr_tf.explain.colour_scale import stretch_maps
from dr_tf.explain.crop_maps import black_images
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.scorecard.baselines import BASELINES, maps_by_eye, random_maps
from dr_tf.explain.scorecard.deletion_insertion import area_under_curve, deletion_and_insertion_images
from dr_tf.explain.scorecard.localization import (
    average_precision,
    energy_pointing_game,
    iou_by_threshold,
    pointing_game,
    upsample,
)
from dr_tf.explain.scorecard.parameter_randomization import randomize_parameters, rank_correlation
from dr_tf.explain.scorecard.record_images import ImageRecords, by_eye
from dr_tf.explain.scorecard.scoring_data import SLOW_EXAMPLES, ScoringData, in_batches, sample_rows
from dr_tf.fundus.synthesis import CAMERAS
from dr_tf.models.heads.head import Head

_SEED = 0
# Attribute of `Scores` -> function of (map, lesion, retina).
LOCALIZATION: dict[str, Callable[..., Any]] = {
    "pointing": pointing_game,
    "energy": energy_pointing_game,
    "iou": iou_by_threshold,
    "average_precision": average_precision,
}


@dataclasses.dataclass
class Scores:
    """Scores of one kind of map. Arrays are empty if there was nothing to score.

    Attributes:
        pointing: {lesion: pointing game, 0 or 1 for each image [n]}.
        energy: {lesion: energy-based pointing game [n]}.
        iou: {lesion: IoU [n, thresholds]}.
        average_precision: {lesion: average precision [n]}.
        deletion: Area under the deletion curve of each example predicted positive; lower is better.
        insertion: Area under the insertion curve; higher is better.
        parameter_randomization: {part randomized last: rank correlation of each example's map with the original map}.
    """

    pointing: dict[str, np.ndarray]
    energy: dict[str, np.ndarray]
    iou: dict[str, np.ndarray]
    average_precision: dict[str, np.ndarray]
    deletion: np.ndarray
    insertion: np.ndarray
    parameter_randomization: dict[str, np.ndarray]


@dataclasses.dataclass
class Scorecard:
    """Scores of all kinds of maps, and the examples that they were computed on.

    Attributes:
        dataset: Name of the record set.
        positive: The positive definition that was explained.
        scores: {method or baseline: Scores}.
        rows: Row numbers of the examples with "masks" (twice if both eyes of a pair have masks), of those predicted
            "positive", and of those of "parameter_randomization".
        patients: The patient of each score, for each lesion, "positive" and "parameter_randomization".
        is_synthetic: Whether all images are synthetic.
        unit: What an example is: "photograph" or "patient".
    """

    dataset: str
    positive: str
    scores: dict[str, Scores]
    rows: dict[str, np.ndarray]
    patients: dict[str, np.ndarray]
    is_synthetic: bool
    unit: str


def build_explainers(
    model: keras.Model, head: Head, names: Iterable[str], output: str | None = None
) -> dict[str, Explainer]:
    """Build explainers by name, and run each once so that a layer without maps is refused early.

    Args:
        model: The network.
        head: The head to explain.
        names: METHOD or METHOD@LAYER.
        output: Name of the output that belongs to the head.

    Returns:
        {name: explainer}.

    Raises:
        UserError: There is no name, a method or layer does not exist, or two names mean the same maps.
    """
    explainers: dict[str, Explainer] = {}
    name_of: dict[tuple[Any, ...], str] = {}
    for name in names:
        method, _, layer = name.partition("@")
        explainer = Explainer(model, head, output=output, method=method, layer=layer or None)
        if (identity := explainer.identity) in name_of:
            raise UserError(f"{name_of[identity]} and {name} are the same maps")
        explainer(black_images(model))
        explainers[name], name_of[identity] = explainer, name
    if not explainers:
        raise UserError("a scorecard needs at least one method")
    return explainers


def compute_scorecard(
    explainers: Mapping[str, Explainer],
    records: ImageRecords,
    rows: np.ndarray,
    *,
    on_progress: Callable[[str], object] = lambda name: None,
) -> Scorecard:
    """Score the maps of explainers and baselines on a sample of at most 64 of the rows, first those with lesion masks.

    Localization uses the images whose label does not rule out the positive definition. Deletion and insertion use the
    examples that the network predicts positive. Methods that run the network many times are randomized on fewer
    examples than the others.

    Args:
        explainers: {name: explainer}, as `build_explainers` returns it.
        records: The record set.
        rows: Row numbers.
        on_progress: Called with the name of each kind of map when it is scored.
    """
    rows, first = sample_rows(records, rows), next(iter(explainers.values()))
    data, scores = ScoringData(records, rows, first), {}
    for name, maps in _all_maps(explainers, data.examples).items():
        localization = {name: _score_localization(maps, data, score) for name, score in LOCALIZATION.items()}
        deletion, insertion = _score_deletion_insertion(first, maps, data)
        randomization = (
            _score_randomization(explainers[name], data)
            if name in explainers
            else _score_baseline_randomization(name, data.randomization_examples)
        )
        scores[name] = Scores(
            **localization, deletion=deletion, insertion=insertion, parameter_randomization=randomization
        )
        on_progress(name)
    scored_rows = {
        "masks": rows[[i for i, _ in data.masks]],
        "positive": rows[data.positive],
        "parameter_randomization": rows[: len(data.randomization_examples)],
    }
    return Scorecard(
        dataset=records.name,
        positive=first.head.positive,
        scores=scores,
        rows=scored_rows,
        patients=_patients(records.columns["patient_id"], rows, data, scored_rows),
        is_synthetic=set(records.sources[rows].tolist()) <= set(CAMERAS),
        unit="patient" if records.paired else "photograph",
    )


def _patients(patient_of, rows, data, scored_rows):
    rows_with_lesion = {}
    for (i, _), lesions in data.masks.items():
        for lesion in lesions:
            rows_with_lesion.setdefault(lesion, []).append(rows[i])
    groups = rows_with_lesion | {name: scored_rows[name] for name in ("positive", "parameter_randomization")}
    return {name: patient_of[group] for name, group in groups.items()}


def choose_thresholds(
    explainers: Mapping[str, Explainer], records: ImageRecords, rows: np.ndarray
) -> dict[tuple[str, str], int]:
    """Choose the threshold of the highest mean IoU. Pass rows of the validation split to score another split.

    Returns:
        {(method or baseline, lesion): index in THRESHOLDS}.
    """
    data = ScoringData(records, sample_rows(records, rows), next(iter(explainers.values())))
    iou = {
        name: _score_localization(maps, data, iou_by_threshold)
        for name, maps in _all_maps(explainers, data.examples).items()
    }
    return {
        (name, lesion): int(values.mean(axis=0).argmax())
        for name, by_lesion in iou.items()
        for lesion, values in by_lesion.items()
    }


def _all_maps(explainers, examples):
    """{method or baseline: {eye: maps at the size of the images}}."""
    maps = {
        name: in_batches(lambda x, explain=explainer: stretch_maps(by_eye(explain(x).maps)), examples)
        for name, explainer in explainers.items()
    }
    maps |= {name: maps_by_eye(baseline, examples.images) for name, baseline in BASELINES.items()}
    size = next(iter(explainers.values())).image_size
    return {
        name: {eye: [upsample(map, size) for map in of_eye] for eye, of_eye in of_name.items()}
        for name, of_name in maps.items()
    }


def _score_localization(maps, data, score):
    """{lesion: scores of all masks}."""
    scores: dict[str, list[Any]] = {}
    for (i, eye), lesions in data.masks.items():
        for lesion, mask in lesions.items():
            scores.setdefault(lesion, []).append(score(maps[eye][i], mask, data.retinas[eye][i]))
    return {lesion: np.array(values, float) for lesion, values in scores.items()}


def _score_deletion_insertion(explainer, maps, data):
    """(deletion, insertion) of the examples that are predicted positive."""
    examples, areas = data.examples, []
    for i in data.positive:
        images, maps_of_example = examples.of_present_eyes(examples.images, i), examples.of_present_eyes(maps, i)
        both = deletion_and_insertion_images(images, maps_of_example, seed=_SEED)
        log_odds = [in_batches(explainer.evidence, examples.with_images(i, steps)).astype(float) for steps in both]
        areas.append([area_under_curve(0.5 * (1 + np.tanh(values / 2))) for values in log_odds])
    return np.array(areas).reshape(-1, 2).T


def _score_randomization(explainer, data):
    examples = data.randomization_examples.take(slice(SLOW_EXAMPLES if explainer.is_slow else None))
    before, correlations, randomized_explainer = by_eye(explainer(examples.network_input()).maps), {}, None
    for name, network in randomize_parameters(explainer.model, seed=_SEED):
        randomized_explainer = randomized_explainer or explainer.for_model(network)
        after = by_eye(randomized_explainer(examples.network_input()).maps)
        correlations[name] = _rank_correlations(before, after, examples)
    return correlations


def _score_baseline_randomization(name, examples):
    """Baselines do not depend on the network: noise is drawn anew, and the contrast does not change."""
    options = [{"seed": _SEED + i} if BASELINES[name] is random_maps else {} for i in (0, 1)]
    before, after = (maps_by_eye(BASELINES[name], examples.images, **one) for one in options)
    return {"head": _rank_correlations(before, after, examples)}


def _rank_correlations(before, after, examples):
    """The rank correlation of each example, over both eyes."""
    pairs = [
        [np.stack(list(examples.of_present_eyes(maps, i).values())) for maps in (before, after)]
        for i in range(len(examples))
    ]
    return np.array([rank_correlation(*pair) for pair in pairs])
