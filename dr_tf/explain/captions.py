"""What is said beside the pictures."""

import dataclasses
import pathlib

from dr_tf.inference.decision import Decision, grade_name
from dr_tf.safe_names import printable

_LITTLE = 0.1  # of the full colour


@dataclasses.dataclass(frozen=True)
class Entry:
    """A photograph of the gallery; `evidence` is None where it never reached the network.

    `undrawn` says why there is no picture of a photograph that was decided on.
    """

    decision: Decision
    evidence: dict[str, float] | None
    speaks: bool = False  # whether anything in it speaks for the target
    strongest: float | None = None  # the share of full colour at its strongest place; None where that is 1 by itself
    picture: str | None = None  # a file: panels in a row, lines of words below
    aspect: float = 1.0  # of a panel, width by height
    undrawn: str = ""

    @property
    def mishap(self):
        """Why there is no explanation of it, or nothing."""
        return self.decision.reason if self.evidence is None else self.undrawn


def plain_target(target, positive):
    return (positive if target == "positive" else target).replace("_", " ")


def about_colours(full, name):
    """What the colours mean, in sentences; `full`: the map's value of full colour, None where maps are stretched."""
    if full is None:
        return (
            "Each photograph is stretched to its own strongest place, which has the full colour: colours do not compare "
            "between photographs, and one on which little speaks for it glows as brightly as one on which much does."
        )
    return (
        "Colours are on one scale for all photographs: full colour is what half of the photographs that the network calls "
        f"{name} reach at their strongest place, so one that it finds clear shows next to nothing."
    )


def about(explainer, target, full):
    return {
        "target": target,
        "positive": explainer.head.positive,
        "method": explainer.method,
        "layer": explainer.place.name,
        "colours": "stretched" if full is None else "one scale",
        "full_colour": full,
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
    if entry.strongest is not None and entry.strongest < _LITTLE:
        return f"Next to nothing speaks for {name}: no place has a tenth of the full colour."
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
    return printable(pathlib.Path(decision.case).name)
