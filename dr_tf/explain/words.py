"""What is said beside the pictures."""

import dataclasses

from dr_tf.inference.decision import Decision, grade_name


@dataclasses.dataclass(frozen=True)
class Entry:
    """A photograph of the gallery; `evidence` is None where it never reached the network."""

    decision: Decision
    evidence: dict[str, float] | None
    speaks: bool = False  # whether anything in it speaks for the target
    picture: str | None = None  # a file: panels in a row, lines of words below
    aspect: float = 1.0  # of a panel, width by height


def plain_target(target, positive):
    return (positive if target == "positive" else target).replace("_", " ")


def about(explainer, target):
    return {
        "target": target,
        "positive": explainer.head.positive,
        "method": explainer.method,
        "layer": explainer.place.name,
    }


def verdict(decision):
    """Such as "refer: moderate NPDR, 0.812 referable (from 0.695 on)"."""
    if decision.p_positive is None:
        return f"{decision.action}: {decision.reason}"
    grade = f"{grade_name(decision.grade)}, " if decision.grade is not None else ""
    positive = plain_target("positive", decision.positive)
    chance = f"{grade}{decision.p_positive:.3f} {positive} (referred from {decision.threshold:.3f} on)"
    return f"{decision.action}: {f'{decision.reason}; ' if decision.reason else ''}{chance}"


def finding(entry, target):
    """What the map shows, in one sentence."""
    value, name = entry.evidence[target], plain_target(target, entry.decision.positive)
    if not entry.speaks:
        return f"Nothing at this layer speaks for {name}: the map is empty."
    if value < 0 and target not in entry.decision.probabilities:
        return f"On the whole the photograph speaks against {name}; the map shows the little that speaks for it."
    return f"The map shows what speaks for {name}."


def lines(entry, target):
    """Below a picture, for when it is passed on without its page."""
    decision, evidence = entry.decision, entry.evidence
    name = plain_target(target, decision.positive)
    classes = ", ".join(f"{c} {p:.3f} ({evidence[c]:+.2f})" for c, p in decision.probabilities.items())
    return [
        f"{_file(decision)}  {verdict(decision)}",
        f"evidence for {name}: {evidence[target]:+.2f}. {finding(entry, target)}",
        f"probability (evidence): {classes}",
    ]


def short_line(entry):
    decision = entry.decision
    p = "" if decision.p_positive is None else f" {decision.p_positive:.2f}"
    return f"{decision.action}{p}  {_file(decision)}"


def _file(decision):
    return decision.photograph.replace("\\", "/").rsplit("/", 1)[-1]
