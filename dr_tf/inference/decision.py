"""Decisions: what is predicted about a case, and about a patient from separate decisions on the eyes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.fundus.geometry import Geometry
from dr_tf.grades import EYES, GRADES

# In order of urgency: the most urgent action of two eyes is the patient's.
ACTIONS = ("clear", "retake", "refer")


@dataclasses.dataclass(frozen=True)
class LabelDecision:
    """The decision on one definition of positive, such as `referable`.

    Attributes:
        probability: the calibrated probability of positive.
        threshold: the threshold of the operating point.
        yes: whether the probability reaches the threshold.
    """

    probability: float
    threshold: float
    yes: bool


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """What is known about one image of a case.

    Attributes:
        photograph: the name of the image.
        gradability: from 0 to 1; None if the image could not be read.
        reason: why the image cannot be read or graded; empty if it can.
        geometry: the position of the crop in the original, for drawing on it; None if the image could not be read.
        frame: the number of the frame in a DICOM file of several, counted from 1; 0 for other files, and if none of all
            frames can be used. Of an eye whose frames cannot be used it is the first.
    """

    photograph: str
    gradability: float | None = None
    reason: str = ""
    geometry: Geometry | None = None
    frame: int = 0


@dataclasses.dataclass(frozen=True)
class Decision:
    """The decision on one case.

    `action` follows from the label decision on `positive`, not from the grade; the two may disagree near the threshold.
    A case that is not gradable has the action "retake", whatever the network predicts.

    Attributes:
        case: the name of the case.
        positive: the definition of positive that decides about referral.
        action: one of ACTIONS.
        gradable: whether the case passed the gate.
        reason: why the case is not gradable; empty if it is.
        grade: the predicted grade; None if there is none or the case is not gradable.
        label_decisions: {definition: LabelDecision}; empty if the network gave no finite output.
        probabilities: {class or label: calibrated probability} of the output that decides.
        other_outputs: {output: {class: calibrated probability}} of the outputs that do not decide.
        uncertainty: normalized entropy of the probabilities: 0 is certain, 1 is a uniform prediction.
        distance: out-of-distribution distance from the training features.
        images: {eye: ImageInfo}.
        eyes: {eye: {class or label: calibrated probability from that eye alone}}, of a network of both eyes whose run has the
            mode "worse_eye"; empty for any other, or if the case is not gradable.
        warning: why the decision may be less reliable than on the photographs that the model was tested on; empty if no such
            reason is known.
        grade_range: (lowest, highest): a conformal range that contains the true grade in 9 of 10 cases like those of the
            calibration split; None as for `grade`, or if no range was fitted.
    """

    case: str
    positive: str
    action: str
    gradable: bool
    reason: str = ""
    grade: int | None = None
    label_decisions: dict[str, LabelDecision] = dataclasses.field(default_factory=dict)
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)
    other_outputs: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    uncertainty: float | None = None
    distance: float | None = None
    images: dict[str, ImageInfo] = dataclasses.field(default_factory=dict)
    eyes: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    warning: str = ""
    grade_range: tuple[int, int] | None = None

    @property
    def p_positive(self) -> float | None:
        """The calibrated probability of positive; None without a finite prediction."""
        return self.label_decisions[self.positive].probability if self.label_decisions else None

    @property
    def threshold(self) -> float | None:
        """The threshold on `p_positive`; None without a finite prediction."""
        return self.label_decisions[self.positive].threshold if self.label_decisions else None

    @property
    def geometry(self) -> Geometry | None:
        """The crop geometry of the first image: of the only one, if the case is a single image."""
        return next((image.geometry for image in self.images.values()), None)

    @property
    def frames(self) -> dict[str, int]:
        """{eye: the frame that was taken}, of the images that are one of several frames of a DICOM file."""
        return {eye: image.frame for eye, image in self.images.items() if image.frame}

    @property
    def missing(self) -> tuple[str, ...]:
        """The eyes of a pair without an image. Empty for a single image, or if the images are unknown."""
        shown = set(self.images)
        return tuple(eye for eye in EYES if eye not in shown) if shown and shown <= set(EYES) else ()

    def most_probable_class(self, output: str) -> int | None:
        """Return the index of the most probable class of an output that does not decide; None without a prediction."""
        probabilities = self.other_outputs.get(output)
        return int(np.argmax(list(probabilities.values()))) if probabilities else None

    @property
    def severity_key(self) -> tuple[int, float, int]:
        """A sort key that puts the worse eye of a patient last: by action, then probability, then grade."""
        p_positive = -1 if self.p_positive is None else self.p_positive
        return ACTIONS.index(self.action), p_positive, -1 if self.grade is None else self.grade


def normalized_entropy(probabilities: ArrayLike, *, exclusive: bool = True) -> np.ndarray:
    """Compute the entropy of predictions relative to a uniform prediction.

    Args:
        probabilities: [n, classes or labels].
        exclusive: whether the classes exclude each other; for independent labels the mean entropy over labels is taken.

    Returns:
        Values from 0 (certain) to 1 (uniform) [n].
    """
    p = np.clip(np.asarray(probabilities, np.float64), 1e-300, 1)
    if exclusive:
        return -(p * np.log(p)).sum(axis=1) / math.log(p.shape[1])
    q = np.clip(1 - p, 1e-300, 1)
    return -(p * np.log(p) + q * np.log(q)).mean(axis=1) / math.log(2)


@dataclasses.dataclass(frozen=True)
class PatientDecision:
    """A patient's decision, aggregated from separate decisions on single images: the worse eye decides.

    A network that takes both eyes at once gives one Decision for the patient instead.

    Attributes:
        patient: the patient's name.
        eyes: (eye, Decision) of every image, in the given order; the eye is "left", "right" or empty if unknown.
    """

    patient: str
    eyes: tuple[tuple[str, Decision], ...]

    @property
    def worse_decision(self) -> Decision:
        """The Decision that determines the patient's action."""
        gradable_eyes = {eye for eye, decision in self.eyes if decision.gradable and eye}
        # An image that is not gradable is ignored if there is a gradable one of the same eye.
        considered = [decision for eye, decision in self.eyes if decision.gradable or eye not in gradable_eyes]
        return max(considered, key=lambda decision: decision.severity_key)

    @property
    def action(self) -> str:
        """One of ACTIONS."""
        return self.worse_decision.action

    @property
    def p_positive(self) -> float | None:
        """The highest probability of positive among gradable images; None if there are none."""
        return max((d.p_positive for _, d in self.eyes if d.gradable and d.p_positive is not None), default=None)

    @property
    def grade(self) -> int | None:
        """The highest grade; None if no image has one."""
        return max((d.grade for _, d in self.eyes if d.grade is not None), default=None)

    def most_probable_class(self, output: str) -> int | None:
        """Return the highest of the images' most probable classes of another output; None without a prediction."""
        classes = [decision.most_probable_class(output) for _, decision in self.eyes]
        return max((number for number in classes if number is not None), default=None)

    @property
    def missing(self) -> tuple[str, ...]:
        """The eyes without an image. Empty if the eye of an image is unknown."""
        shown = {eye for eye, _ in self.eyes}
        return tuple(eye for eye in EYES if eye not in shown) if shown <= set(EYES) else ()

    @property
    def ungradable_eyes(self) -> tuple[str, ...]:
        """The eyes that have images, but no gradable one."""
        shown, gradable = {eye for eye, _ in self.eyes}, {eye for eye, d in self.eyes if d.gradable}
        return tuple(eye for eye in EYES if eye in shown - gradable)

    @property
    def remark(self) -> str:
        """Which eyes are missing, which need a new photograph, and warnings, as text."""
        parts = [f"no photograph of the {eye} eye" for eye in self.missing]
        parts += [f"retake the photograph of the {eye} eye" for eye in self.ungradable_eyes]
        return "; ".join(parts + list(dict.fromkeys(decision.warning for _, decision in self.eyes if decision.warning)))


def grade_name(grade: int | None) -> str:
    """Return the name of an ICDR grade, empty for None."""
    return "" if grade is None else GRADES[grade]
