"""The explanation page: each case with its class-activation maps, decision, probabilities and evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dr_tf.explain.captions import Entry, describe_colours, describe_map, describe_probability, target_name
from dr_tf.explain.overlay import COLORMAPS, colour_key
from dr_tf.explain.pictures import PANELS
from dr_tf.rendering import render
from dr_tf.safe_names import printable

if TYPE_CHECKING:
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.export_explainer import ExportExplainer

_ACTIONS = ("refer", "clear", "retake")
_GRADIENT_STEPS = 17


@dataclasses.dataclass(frozen=True)
class ProbabilityRow:
    """A class or another target with its evidence; only classes have a probability."""

    name: str
    probability: float | None
    evidence: float
    is_target: bool


@dataclasses.dataclass(frozen=True)
class ExplainedCase:
    """What the page prints of a case; without `rows` it never reached the network."""

    case: str
    action: str
    verdict: str
    description: str = ""
    picture: str | None = None
    aspect: float = 1.0
    rows: tuple[ProbabilityRow, ...] = ()


def explanation_page(
    entries: Sequence[Entry],
    explainer: Explainer | ExportExplainer,
    target: str,
    full_colour: float | None = None,
    contact_sheets: Sequence[str] = (),
) -> str:
    """Render the explanation page.

    Args:
        entries: The cases, whose pictures lie beside the page.
        explainer: The explainer that computed the maps.
        target: The target of the maps, one of `explainer.targets`.
        full_colour: The value of a map that has full colour; None where each map is scaled to its own maximum.
        contact_sheets: File names of the contact sheets beside the page.
    """
    name = target_name(target, explainer.head.positive)
    actions = [entry.decision.action for entry in entries]
    return render(
        "explanations.html",
        target=name,
        method=explainer.title,
        by_target=explainer.by_target,
        layer=explainer.layer_name,
        colours=describe_colours(full_colour, name),
        legends={colormap: _gradient(colormap) for colormap in COLORMAPS},
        panels=PANELS,
        actions={action: actions.count(action) for action in _ACTIONS},
        not_predicted=[printable(entry.decision.case) for entry in entries if entry.evidence is None],
        contact_sheets=contact_sheets,
        entries=[_explained_case(entry, target) for entry in entries],
    )


def _gradient(colormap: str) -> list[str]:
    """The colours of a CSS gradient."""
    return [f"rgb({r}, {g}, {b})" for r, g, b in colour_key(colormap, _GRADIENT_STEPS)]


def _explained_case(entry: Entry, target: str) -> ExplainedCase:
    decision = entry.decision
    case = ExplainedCase(printable(decision.case), decision.action, describe_probability(decision))
    if entry.evidence is None:
        return case
    return dataclasses.replace(
        case,
        description=entry.not_drawn or describe_map(entry, target),
        picture=entry.picture,
        aspect=entry.aspect,
        rows=_probability_rows(entry, target),
    )


def _probability_rows(entry: Entry, target: str) -> tuple[ProbabilityRow, ...]:
    """A row for each class, and one for the target unless it is a class or has the name of one."""
    probabilities, evidence = entry.decision.probabilities, entry.evidence or {}
    names = {key: target_name(key, entry.decision.positive) for key in evidence}
    is_extra = target not in probabilities and names[target] not in [names[key] for key in probabilities]
    return tuple(
        ProbabilityRow(names[key], probabilities.get(key), evidence[key], names[key] == names[target])
        for key in (*probabilities, *([target] if is_extra else []))
    )
