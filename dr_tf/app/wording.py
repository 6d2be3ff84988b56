"""Decisions in words, the same for the page, the HTML report and the PDF."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterator

import numpy as np

from dr_tf.app.engine import PatientAnswer
from dr_tf.app.messages import Messages
from dr_tf.grades import GRADES
from dr_tf.inference import priors
from dr_tf.inference.case import SINGLE
from dr_tf.inference.decision import Decision, ImageInfo, PatientDecision
from dr_tf.inference.rule import NOT_FINITE, OUT_OF_DISTRIBUTION, Rule
from dr_tf.safe_names import printable

# What a reason contains -> what to do about it.
_ADVICE = {
    "too dark": "advice.dark",
    "too bright": "advice.bright",
    "of the field is visible": "advice.field",
    "out of focus": "advice.focus",
    "hazy": "advice.hazy",
    OUT_OF_DISTRIBUTION: "advice.unlike",
    NOT_FINITE: "advice.failed",
    "no retina found": "advice.no_retina",
}
_LONGEST_NAME = 60  # letters of a file name that are shown


@dataclasses.dataclass(frozen=True)
class Bar:
    """A class or finding with its probability; `is_chosen` marks what the decision names."""

    name: str
    share: float
    text: str
    is_chosen: bool


@dataclasses.dataclass(frozen=True)
class Chart:
    """The probabilities of one output."""

    title: str
    bars: tuple[Bar, ...]
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class Summary:
    """One decision in words.

    Attributes:
        title: whom or what it is about.
        action: one of `dr_tf.inference.decision.ACTIONS`.
        word: the action in one word.
        sentence: what it means.
        probability: the probability and the threshold; empty if it cannot be graded.
        expectation: what it means for 100 photographs like this; empty if it cannot be graded.
        grade: the grade; empty without one.
        quality: the image quality; empty if it is unknown.
        basis: which photographs decide; empty if there is one.
        advice: what to do about photographs that cannot be graded, and which eyes are missing.
        charts: the probabilities of each output.
    """

    title: str
    action: str
    word: str
    sentence: str
    probability: str = ""
    expectation: str = ""
    grade: str = ""
    quality: str = ""
    basis: str = ""
    advice: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()


def short_name(name: str) -> str:
    """Return the file name without folders, printable and not too long."""
    text = printable(pathlib.PurePosixPath(name).name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


class Wording:
    """Puts decisions into words.

    Args:
        messages: the words.
        rule: the rule that decided.
        prevalence: the share of positives at the clinic.
    """

    def __init__(self, messages: Messages, rule: Rule, prevalence: float) -> None:
        self.messages, self.prevalence = messages, prevalence
        self._rule = rule
        self._definition = messages.name("definition", rule.head.positive)

    def patient(self, answer: PatientAnswer) -> Summary:
        """Put the decision on a patient into words."""
        decision = answer.decision
        assert decision is not None
        t = self.messages
        unused: tuple[str, ...] = ()
        if answer.unused:
            unused = (t("remark.unused", names=", ".join(map(short_name, answer.unused))),)
        if isinstance(decision, PatientDecision):
            worse = self.decision(decision.worse_decision, self._title(answer.patient))
            is_clear = decision.action == "clear"
            sentence = t("sentence.clear_patient", definition=self._definition) if is_clear else worse.sentence
            advice = (*self._remarks(decision.missing, decision.ungradable_eyes), *unused) or worse.advice
            return dataclasses.replace(worse, advice=advice, sentence=sentence, basis=t("patient.worse_eye"))
        is_pair = SINGLE not in decision.images
        title = self._title(answer.patient) if is_pair else short_name(decision.case)
        summary = self.decision(decision, title)
        advice = (*summary.advice, *self._remarks(decision.missing, ()), *unused)
        return dataclasses.replace(summary, advice=advice, basis=t("patient.both_eyes") if is_pair else "")

    def decision(self, decision: Decision, title: str) -> Summary:
        """Put the decision on one case into words."""
        t = self.messages
        summary = Summary(
            title,
            decision.action,
            t(f"action.{decision.action}"),
            t(f"sentence.{decision.action}", definition=self._definition),
            quality=self._quality(decision),
        )
        if not decision.gradable or decision.p_positive is None or decision.threshold is None:
            return dataclasses.replace(summary, advice=tuple(self._advice(decision)))
        return dataclasses.replace(
            summary,
            probability=t(
                "probability", probability=t.percent(decision.p_positive), threshold=t.percent(decision.threshold)
            ),
            expectation=t("expectation", count=self._of_hundred(self.probability_here(decision))),
            grade=self._grade(decision),
            advice=(t("warning.unfamiliar"),) if decision.warning else (),
            charts=tuple(self._charts(decision)),
        )

    def probability_here(self, decision: Decision) -> float:
        """Return the probability of positive at the clinic's prevalence."""
        rule, head = self._rule, self._rule.head
        fitted, positive = np.asarray(rule.prior), priors.positive_classes(head)
        target = priors.prior_at_prevalence(fitted, self.prevalence, positive, exclusive=head.exclusive)
        values = np.array([list(decision.probabilities.values())])
        return float(head.p_positive(priors.shift_prior(values, fitted, target, exclusive=head.exclusive))[0])

    def class_name(self, name: str) -> str:
        """Return a class, a label of ODIR or a definition in words."""
        for kind, known in (("class", name), ("definition", name), ("definition", f"odir_{name}")):
            words = self.messages.name(kind, known)
            if words != known.replace("_", " "):
                return words
        return name

    def _of_hundred(self, share):
        if share < 0.01:
            return self.messages("count.below_one")
        return self.messages("count.above_99") if share > 0.99 else str(round(100 * share))

    def _title(self, patient):
        return self.messages("patient.title", patient=short_name(patient))

    def _grade(self, decision):
        if decision.grade is None:
            return ""
        words = self.messages("grade.value", grade=decision.grade, name=self.class_name(GRADES[decision.grade]))
        low, high = decision.grade_range or (decision.grade, decision.grade)
        return words if low == high else f"{words} {self.messages('grade.range', low=low, high=high)}"

    def _quality(self, decision):
        scores = [image.gradability for image in decision.images.values() if image.gradability is not None]
        return self.messages("quality.value", quality=self.messages.percent(min(scores))) if scores else ""

    def _remarks(self, missing, ungradable):
        retake = [self.messages(f"remark.retake_{eye}") for eye in ungradable]
        return [self.messages(f"remark.missing_{eye}") for eye in missing] + retake

    def _advice(self, decision: Decision) -> list[str]:
        images = [(eye, image) for eye, image in decision.images.items() if image.reason]
        if not images:
            return [self._advice_on(ImageInfo("", reason=decision.reason))]
        prefix = {eye: f"{self.messages(f'eye.{eye}')}: " if eye else "" for eye, _ in images}
        return [prefix[eye] + self._advice_on(image) for eye, image in images]

    def _advice_on(self, image):
        for part, key in _ADVICE.items():
            if part in image.reason:
                return self.messages(key)
        if image.gradability is not None:
            return self.messages("advice.low", quality=self.messages.percent(image.gradability))
        return self.messages("advice.file", reason=image.reason)

    def _charts(self, decision: Decision) -> Iterator[Chart]:
        t, head = self.messages, self._rule.head
        if head.exclusive and len(head.classes) > 1:
            chosen = GRADES[decision.grade] if decision.grade is not None else ""
            title = t("chart.grade") if tuple(head.classes) == GRADES else self._definition
            yield Chart(title, tuple(self._bar(name, p, name == chosen) for name, p in decision.probabilities.items()))
        elif len(decision.label_decisions) > 1:
            labels = decision.label_decisions.items()
            yield Chart(t("chart.labels"), tuple(self._bar(name, d.probability, d.yes) for name, d in labels))
        for output, probabilities in decision.other_outputs.items():
            number = decision.most_probable_class(output)
            bars = tuple(self._bar(name, p, i == number) for i, (name, p) in enumerate(probabilities.items()))
            known = self._rule.other_outputs[output].report.get("images", 0)
            title = t("chart.dme") if output == "dme" else t("chart.output", name=output)
            yield Chart(title, bars, "" if known else t("chart.uncalibrated"))

    def _bar(self, name, share, is_chosen):
        share = share if math.isfinite(share) else 0.0
        return Bar(self.class_name(name), share, self.messages.percent(share), bool(is_chosen))
