"""How far maps of where a network looks can be believed: the scorecard on the photographs of an evaluation."""

from dr_tf.console import UserError, progress
from dr_tf.explain.scorecard.baselines import BASELINES
from dr_tf.explain.scorecard.scorecard import choose_thresholds, build_explainers, compute_scorecard
from dr_tf.explain.scorecard.tables import summarize

VALIDATION = "validation"


def made_of(names, network, rule):
    """{name: Explainer} of METHOD or METHOD@LAYER; refuses what could not be scored, before anything is measured."""
    try:
        return build_explainers(network.model, rule.head, names, output=rule.decides)
    except UserError as error:
        raise UserError(f"--explain: {error}") from None


def explanations(made, records, rows, split):
    """The scorecard of maps as plain data; thresholds of IoU are chosen on the validation split, where there is one."""
    chosen = VALIDATION if VALIDATION in set(records.columns["split"]) else None
    thresholds = choose_thresholds(made, records, records.rows(chosen)) if chosen else {}
    with progress(len(made) + len(BASELINES), "scoring", "kinds of maps") as bar:
        card = compute_scorecard(made, records, rows, on_progress=lambda name: bar.update())
    about = {"split": split, "iou_threshold_split": chosen, "of": len(rows)}
    return about | summarize(card, thresholds) | {"layers": {name: e.map_layer.name for name, e in made.items()}}
