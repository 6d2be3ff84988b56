"""The model card: what a run is for, what it was trained and evaluated on, and its known limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What the report states about a run beside its metrics.

    Args:
        name: The run's name.
        model: The network and its input size.
        trained_on: The record set that it was trained on.
        intended_use: What the run may be used for.
        not_for: What the run must not be used for.
        limits: Known limits; those that the evaluation shows are added to them.
        details: Further entries, {term: text}.
    """

    name: str = "dr_tf run"
    model: str = ""
    trained_on: str = ""
    intended_use: str = (
        "Research on grading diabetic retinopathy from colour fundus photographs, together with the metrics of this "
        "report."
    )
    not_for: str = (
        "Diagnosis, or screening without a trained reader: this is research software, not a medical device. "
        "Photographs of another kind (other fields, wide field, children) than those evaluated."
    )
    limits: tuple[str, ...] = ()
    details: dict[str, str] = dataclasses.field(default_factory=dict)


def model_card_entries(card: ModelCard, metrics: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the entries of the model card as {term: lines of text}, without those that are not known."""
    sources = [part["value"] for part in metrics["subgroups"] if part["subgroup"] == "source"]
    limits = [*card.limits, *metrics["caveats"]]
    if len(sources) < 2 and not metrics.get("external"):
        limits.append("Evaluated on a single source: the metrics may not generalize to other clinics and cameras.")
    entries = {
        "Model": [card.model],
        "Trained on": [card.trained_on],
        "Evaluated on": [f"{metrics['dataset']}, {metrics['split']}"],
        "Intended use": [card.intended_use],
        "Not for": [card.not_for],
        "Limits": limits,
        **{term: [text] for term, text in card.details.items()},
    }
    return {term: lines for term, lines in entries.items() if any(lines)}
