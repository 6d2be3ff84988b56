"""Score the explanations of an evaluation: the scorecard of class-activation maps on the evaluated images."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError, progress
from dr_tf.data.records import JOIN, Records
from dr_tf.evaluation.evaluation_folder import EXPLANATIONS, read_json
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.scorecard.baselines import BASELINES
from dr_tf.explain.scorecard.scorecard import build_explainers, choose_thresholds, compute_scorecard
from dr_tf.explain.scorecard.tables import VERSION, summarize, tables
from dr_tf.inference.network import Network
from dr_tf.inference.rule import Rule
from dr_tf.models.network import KerasNetwork

VALIDATION = "validation"


def requested_explainers(names: Sequence[str], network: Network, rule: Rule) -> dict[str, Explainer]:
    """Build the explainers that `evaluate.py --explain` names, each METHOD or METHOD@LAYER.

    Raises:
        UserError: if a name is unknown or does not fit the network.
    """
    if not isinstance(network, KerasNetwork):
        raise UserError("--explain needs the run itself: an export has no gradients")
    try:
        return build_explainers(network.model, rule.head, names, output=rule.decides)
    except UserError as error:
        raise UserError(f"--explain: {error}") from None


def score_explanations(
    explainers: Mapping[str, Explainer], records: Records, rows: np.ndarray, split: str, *, external: bool = False
) -> dict[str, Any]:
    """Compute the content of explanations.json: the scorecard of the maps as plain data.

    The IoU thresholds are chosen on the validation split, where there is one. In another data set than the run's own
    they are chosen on everything but its test split, as nothing of it was trained on.

    Args:
        explainers: {name: Explainer}.
        records: the evaluated record set.
        rows: the evaluated rows.
        split: name of the split.
        external: whether this is another data set than the run's own.
    """
    threshold_split = _threshold_split(records, external)
    threshold_rows = records.rows(threshold_split) if threshold_split else rows[:0]
    thresholds = choose_thresholds(explainers, records, threshold_rows) if threshold_split else {}
    with progress(len(explainers) + len(BASELINES), "scoring", "kinds of maps") as bar:
        card = compute_scorecard(explainers, records, rows, on_progress=lambda name: bar.update())
    return {
        "version": VERSION,
        "split": split,
        "split_examples": len(rows),
        "iou_threshold_split": threshold_split,
        "iou_threshold_overlap": bool(np.isin(threshold_rows, rows).any()),
        **summarize(card, thresholds),
        "layers": {name: explainer.layer_name for name, explainer in explainers.items()},
    }


def _threshold_split(records: Records, external: bool) -> str | None:
    known = list(dict.fromkeys(records.columns["split"].tolist()))
    if external:
        return JOIN.join(name for name in known if name != "test") or None
    return VALIDATION if VALIDATION in known else None


def scorecard_lines(folder: str | os.PathLike) -> Iterator[str]:
    """Yield the scorecard in the explanations.json of an evaluation folder as lines of text."""
    return tables(read_json(pathlib.Path(folder) / EXPLANATIONS))
