"""What is said of a photograph, and of a patient: the worse eye's."""

import dataclasses
import math

import numpy as np

from dr_tf.fundus.geometry import Geometry
from dr_tf.grades import GRADES

# From the least to the most that is asked of a clinic.
ACTIONS = ("clear", "retake", "refer")
EYES = ("left", "right")


@dataclasses.dataclass(frozen=True)
class Decision:
    """Higher always means more disease. `grade` and `p_positive` may disagree near a threshold: `action` follows the latter.

    Where a photograph is not gradable `reason` says why, and the action is to retake it, whatever the network made of it.
    """

    photograph: str
    positive: str  # what p_positive is the probability of: a name in grades.POSITIVE_DEFINITIONS
    action: str
    gradable: bool
    reason: str = ""
    grade: int | None = None
    p_positive: float | None = None
    threshold: float | None = None
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)
    uncertainty: float | None = None  # entropy of the probabilities: 0 certain, 1 knows nothing
    dme: int | None = None  # risk of macular edema, a number in grades.DME_RISKS; it has no say in the action
    dme_probabilities: dict[str, float] | None = None  # empty where not gradable; None: the run does not tell the risk
    distance: float | None = None  # from the training photographs, in feature space
    geometry: Geometry | None = None  # for drawing on the original

    @property
    def badness(self):
        """Sorts the eyes of a patient, the worse one last."""
        p_positive = -1 if self.p_positive is None else self.p_positive
        return ACTIONS.index(self.action), p_positive, -1 if self.grade is None else self.grade


def unusable(photograph, positive, reason):
    """Of a file that never reached the network."""
    return Decision(photograph=photograph, positive=positive, action="retake", gradable=False, reason=reason)


def uncertainty(probabilities, *, exclusive=True):
    """Entropy [n] as a share of the most there could be; without `exclusive` the mean over labels."""
    p = np.clip(np.asarray(probabilities, np.float64), 1e-300, 1)
    if exclusive:
        return -(p * np.log(p)).sum(axis=1) / math.log(p.shape[1])
    q = np.clip(1 - p, 1e-300, 1)
    return -(p * np.log(p) + q * np.log(q)).mean(axis=1) / math.log(2)


@dataclasses.dataclass(frozen=True)
class PatientDecision:
    patient: str
    eyes: tuple[tuple[str, Decision], ...]  # (left, right or empty where not known; its decision), as they came

    @property
    def counted(self):
        """Without the photographs that a gradable one of the same eye makes up for."""
        judged = {eye for eye, d in self.eyes if d.gradable and eye}
        return [d for eye, d in self.eyes if d.gradable or eye not in judged]

    @property
    def worse(self):
        return max(self.counted, key=lambda decision: decision.badness)

    @property
    def action(self):
        return self.worse.action

    @property
    def p_positive(self):
        return max((d.p_positive for _, d in self.eyes if d.gradable), default=None)

    @property
    def grade(self):
        return max((d.grade for _, d in self.eyes if d.grade is not None), default=None)

    @property
    def dme(self):
        return max((d.dme for _, d in self.eyes if d.dme is not None), default=None)

    @property
    def missing(self):
        """The eyes that no photograph shows; empty where photographs do not say whose eye they are."""
        shown = {eye for eye, _ in self.eyes}
        return tuple(eye for eye in EYES if eye not in shown) if shown <= set(EYES) else ()

    @property
    def unjudged(self):
        """The eyes of which every photograph has to be taken again."""
        shown, judged = {eye for eye, _ in self.eyes}, {eye for eye, d in self.eyes if d.gradable}
        return tuple(eye for eye in EYES if eye in shown - judged)

    @property
    def remark(self):
        parts = [f"no photograph of the {eye} eye" for eye in self.missing]
        return "; ".join(parts + [f"the {eye} eye has to be taken again" for eye in self.unjudged])


def grade_name(grade):
    return "" if grade is None else GRADES[grade]


def tells_edema(decision):
    """Whether the run that decided tells the risk of macular edema, be it not of this photograph or patient."""
    decision = decision.worse if isinstance(decision, PatientDecision) else decision
    return decision.dme_probabilities is not None
