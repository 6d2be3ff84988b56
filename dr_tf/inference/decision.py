"""What is said of a case, and of a patient whose eyes were decided on one by one: the worse eye's."""

import dataclasses
import math

import numpy as np

from dr_tf.fundus.geometry import Geometry
from dr_tf.grades import EYES, GRADES

# From the least to the most that is requested of a clinic.
ACTIONS = ("clear", "retake", "refer")


@dataclasses.dataclass(frozen=True)
class LabelDecision:
    """To one definition: yes where the probability reached the threshold."""

    probability: float
    threshold: float
    yes: bool


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """A photograph of a case, as far as it was seen; `reason` where it cannot be graded or read."""

    photograph: str
    gradability: float | None = None  # 0 to 1; None where it was not read
    reason: str = ""
    geometry: Geometry | None = None  # for drawing on the original


@dataclasses.dataclass(frozen=True)
class Decision:
    """Higher always means more disease. `grade` and the answer may disagree near a threshold: `action` follows the answer.

    Where a case is not gradable `reason` says why, and the action is to retake it, whatever the network made of it.
    """

    case: str
    positive: str  # the definition whose answer says whether to refer
    action: str
    gradable: bool
    reason: str = ""
    grade: int | None = None
    label_decisions: dict[str, LabelDecision] = dataclasses.field(
        default_factory=dict
    )  # one for each definition that is decided
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)  # of the classes or labels
    others: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)  # {output: its class probabilities}
    uncertainty: float | None = None  # entropy of the probabilities: 0 certain, 1 knows nothing
    distance: float | None = None  # from the training photographs, in feature space
    images: dict[str, ImageInfo] = dataclasses.field(default_factory=dict)  # {eye: its photograph}

    @property
    def p_positive(self):
        return self.label_decisions[self.positive].probability if self.label_decisions else None

    @property
    def threshold(self):
        return self.label_decisions[self.positive].threshold if self.label_decisions else None

    @property
    def geometry(self):
        """Of a case of one photograph."""
        return next((image.geometry for image in self.images.values()), None)

    @property
    def missing(self):
        """The eyes of a pair that no photograph shows; empty where it is not told what was shown."""
        shown = set(self.images)
        return tuple(eye for eye in EYES if eye not in shown) if shown and shown <= set(EYES) else ()

    def likeliest(self, output):
        """The number of the most probable class of another output; None where it is not told."""
        told = self.others.get(output)
        return int(np.argmax(list(told.values()))) if told else None

    @property
    def badness(self):
        """Sorts the eyes of a patient, the worse one last."""
        p_positive = -1 if self.p_positive is None else self.p_positive
        return ACTIONS.index(self.action), p_positive, -1 if self.grade is None else self.grade


def uncertainty(probabilities, *, exclusive=True):
    """Entropy [n] as a share of the most there could be; without `exclusive` the mean over labels."""
    p = np.clip(np.asarray(probabilities, np.float64), 1e-300, 1)
    if exclusive:
        return -(p * np.log(p)).sum(axis=1) / math.log(p.shape[1])
    q = np.clip(1 - p, 1e-300, 1)
    return -(p * np.log(p) + q * np.log(q)).mean(axis=1) / math.log(2)


@dataclasses.dataclass(frozen=True)
class PatientDecision:
    """The worse of two decisions. One decision about both eyes is a Decision, of a network that takes pairs."""

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

    def likeliest(self, output):
        """The worse eye's, of those that were told."""
        return max((d.likeliest(output) for _, d in self.eyes if d.likeliest(output) is not None), default=None)

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
