"""The model card: what the run is for, what it learned from, and where it must not be trusted."""

import dataclasses

from dr_tf.evaluation.report.display_names import text


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """`details`: further lines, such as the version, the configuration, the weights that were started from."""

    name: str = "dr_tf run"
    model: str = ""
    trained_on: str = ""
    intended_use: str = (
        "Research on grading diabetic retinopathy from colour fundus photographs, read together with these figures."
    )
    not_for: str = (
        "Diagnosis, or screening without a trained reader: this is research software, not a medical device. "
        "Photographs of another kind (other fields, wide field, children) than those evaluated."
    )
    limits: tuple[str, ...] = ()
    details: dict[str, str] = dataclasses.field(default_factory=dict)


def card_lines(card, metrics):
    """(title, text) of what is known."""
    sources = [part["value"] for part in metrics["subgroups"] if part["subgroup"] == "source"]
    limits = [*card.limits, *metrics["caveats"]]
    if len(sources) < 2 and not metrics.get("external"):
        limits.append("One source only: how figures carry over to other clinics and cameras is not shown here.")
    lines = {
        "Model": card.model,
        "Trained on": card.trained_on,
        "Evaluated on": f"{metrics['dataset']}, {metrics['split']}",
        "Intended use": card.intended_use,
        "Not for": card.not_for,
        "Limits": limits,
        **card.details,
    }
    return {title: line for title, line in lines.items() if line}


def card_list(card, metrics):
    rows = ""
    for title, line in card_lines(card, metrics).items():
        lines = [line] if isinstance(line, str) else line
        rows += f"<dt>{text(title)}</dt><dd>{'<br>'.join(text(str(part)) for part in lines)}</dd>"
    return f"<dl>{rows}</dl>"
