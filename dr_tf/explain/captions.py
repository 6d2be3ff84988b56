"""Captions of explained cases: sentences about the decision, the class-activation map, and its colours."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

from dr_tf.inference.decision import Decision, grade_name
from dr_tf.inference.formats import frames_text
from dr_tf.safe_names import printable

if TYPE_CHECKING:
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.export_explainer import ExportExplainer

_WEAK = 0.1  # of full colour


@dataclasses.dataclass(frozen=True)
class Entry:
    """A case of the gallery.

    Args:
        decision: The decision on the case.
        evidence: {target: evidence}; None where the case never reached the network.
        has_evidence: Whether the map has any evidence for the target.
        peak: The maximum of the map as a share of full colour; None where each map is scaled to its own maximum.
        picture: File name of the picture: panels in a row, captions below.
        aspect: Width of a panel divided by its height.
        not_drawn: Why a case that was decided has no picture; empty where it has one.
        by_target: Whether the map depends on the target.
    """

    decision: Decision
    evidence: dict[str, float] | None
    has_evidence: bool = False
    peak: float | None = None
    picture: str | None = None
    aspect: float = 1.0
    not_drawn: str = ""
    by_target: bool = True

    @property
    def problem(self) -> str:
        """Why the case has no explanation; empty where it has one."""
        return self.decision.reason if self.evidence is None else self.not_drawn


def target_name(target: str, positive: str) -> str:
    """Return a target in words; "positive" becomes the definition of a positive case."""
    return (positive if target == "positive" else target).replace("_", " ")


def describe_colours(full_colour: float | None, name: str) -> str:
    """Return sentences on what the colours mean.

    Args:
        full_colour: The value of a map that has full colour; None where each map is scaled to its own maximum.
        name: The target in words.
    """
    if full_colour is None:
        return (
            "Each map is scaled to its own maximum: colours cannot be compared between photographs, and weak evidence "
            "looks as bright as strong evidence."
        )
    return (
        "All photographs share one colour scale. Full colour is the median of the maxima of those predicted "
        f"{name}, so a photograph without evidence shows hardly any colour."
    )


def map_settings(explainer: Explainer | ExportExplainer, target: str, full_colour: float | None) -> dict[str, Any]:
    """Return what explanations.json states about all maps."""
    return {
        "target": target,
        "positive": explainer.head.positive,
        "method": explainer.method,
        "layer": explainer.layer_name,
        "colours": "stretched" if full_colour is None else "one scale",
        "full_colour": full_colour,
    }


def describe_decision(decision: Decision) -> str:
    """Return the action and its reason: "refer: moderate NPDR, probability of referable 0.812 (threshold 0.695)"."""
    frames = frames_text(decision)
    return f"{decision.action}: {describe_probability(decision)}{f'; {frames}' if frames else ''}"


def describe_probability(decision: Decision) -> str:
    """Return the reason for an action: why the case was not predicted, or its grade, probability and threshold."""
    if decision.p_positive is None:
        return decision.reason
    positive = target_name("positive", decision.positive)
    probability = f"probability of {positive} {decision.p_positive:.3f} (threshold {decision.threshold:.3f})"
    grade = f"{grade_name(decision.grade)}, " if decision.grade is not None else ""
    remarks = "".join(f"{remark}; " for remark in (decision.reason, decision.warning) if remark)
    return f"{remarks}{grade}{probability}"


def describe_map(entry: Entry, target: str) -> str:
    """Return one sentence on what the map shows."""
    value, name = (entry.evidence or {})[target], target_name(target, entry.decision.positive)
    if not entry.by_target:
        return "The map shows attention, which is the same for every target."
    if not entry.has_evidence:
        return f"The layer of the map has no evidence for {name}: the map is empty."
    if entry.peak is not None and entry.peak < _WEAK:
        return f"There is hardly any evidence for {name}: the map stays below a tenth of full colour."
    if value < 0 and target not in entry.decision.probabilities:
        return f"On the whole the evidence is against {name}; the map shows the little evidence for it."
    return f"The map shows the evidence for {name}."


def picture_captions(entry: Entry, target: str) -> list[str]:
    """Return the lines below a picture, which explain it when it is passed on without its page."""
    decision, evidence = entry.decision, entry.evidence or {}
    name = target_name(target, decision.positive)
    classes = ", ".join(f"{c} {p:.3f} ({evidence[c]:+.2f})" for c, p in decision.probabilities.items())
    return [
        f"{_file_name(decision)}  {describe_decision(decision)}",
        f"evidence for {name}: {evidence[target]:+.2f}. {describe_map(entry, target)}",
        f"probability (evidence): {classes}",
    ]


def tile_caption(entry: Entry) -> str:
    """Return the line below a tile of the contact sheet."""
    decision = entry.decision
    probability = "" if decision.p_positive is None else f" {decision.p_positive:.2f}"
    return f"{decision.action}{probability}  {_file_name(decision)}"


def _file_name(decision: Decision) -> str:
    return printable(pathlib.Path(decision.case).name)
