"""Render a synthetic patient: both eyes, the traits they share, and the labels that follow from what was drawn."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from dr_tf.fundus.synthesis import anatomy, cameras
from dr_tf.fundus.synthesis.eye import Eye, render_eye
from dr_tf.fundus.synthesis.findings import FINDINGS
from dr_tf.fundus.synthesis.grading import LESION_PLANS
from dr_tf.grades import EYES, ODIR_LABELS

LESIONS = (
    "microaneurysms",
    "haemorrhages",
    "hard_exudates",
    "cotton_wool_spots",
    "venous_beading",
    "irma",
    "new_vessels",
    "vitreous_haemorrhage",
    "cupping",
    "media_haze",
    "drusen",
    "geographic_atrophy",
    "choroidal_neovascularization",
    "arteriovenous_nicking",
    "peripapillary_atrophy",
    "myelinated_fibres",
    "chorioretinal_scars",
)

# As in IDRiD's training photographs, rounded.
GRADE_SHARES = (0.33, 0.05, 0.33, 0.17, 0.12)
_BOTH_EYES = 0.6  # probability that a finding is in both eyes
_SMALLEST_SIDE = 64


@dataclasses.dataclass(frozen=True)
class Patient:
    """A synthetic patient.

    Attributes:
        seed: of `render_patient`.
        age: in years.
        sex: "female" or "male".
        labels: 0 or 1 for each of N D G C A H M O; N is 1 only if all others are 0.
        eyes: left, right.
    """

    seed: int
    age: int
    sex: str
    labels: tuple[int, ...]
    eyes: tuple[Eye, Eye]


def _labels(grade: int, letters: Iterable[str]) -> tuple[int, ...]:
    positive = set(letters) | ({"D"} if grade > 0 else set())
    return tuple(int(letter in positive if letter != "N" else not positive) for letter in ODIR_LABELS)


def draw_grades(rng: np.random.Generator, shares: Sequence[float] = GRADE_SHARES) -> tuple[int, int]:
    """Draw the grades of (left, right): one eye by `shares`, the fellow eye mostly the same or a neighbouring grade."""
    first = int(rng.choice(5, p=shares))
    second = int(np.clip(first + rng.choice([-1, 0, 1], p=[0.15, 0.7, 0.15]), 0, 4))
    return (first, second) if rng.random() < 0.5 else (second, first)


def _share_out(rng: np.random.Generator, findings: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the findings of (left, right): each is in both eyes or in one."""
    left: list[str] = []
    right: list[str] = []
    for letter in findings:
        in_both, in_left = rng.random() < _BOTH_EYES, rng.random() < 0.5
        left += [letter] if in_both or in_left else []
        right += [letter] if in_both or not in_left else []
    return tuple(left), tuple(right)


def _check(side: int, grades: Sequence[int] | None, findings: Iterable[str], camera: str | None) -> None:
    n_grades = len(LESION_PLANS)
    if side < _SMALLEST_SIDE:
        raise ValueError(f"side must be at least {_SMALLEST_SIDE} pixels, got {side}")
    if grades is not None and (np.shape(grades) != (2,) or any(grade not in range(n_grades) for grade in grades)):
        raise ValueError(f"grades must be two ICDR grades from 0 to {n_grades - 1} (left, right), got {grades!r}")
    unknown = [letter for letter in findings if letter not in FINDINGS]
    if unknown:
        raise ValueError(f"unknown finding {unknown[0]!r}; known: {', '.join(FINDINGS)}")
    if camera is not None and camera not in cameras.CAMERAS:
        raise ValueError(f"unknown camera {camera!r}; known: {', '.join(cameras.CAMERAS)}")


def render_patient(
    seed: int,
    *,
    side: int = 512,
    grades: Sequence[int] | None = None,
    findings: Iterable[str] = (),
    camera: str | None = None,
) -> Patient:
    """Render both fundus photographs of a synthetic patient; the same arguments give the same pixels.

    Anatomy, camera and findings do not depend on the grades: the same seed with other grades is the same patient.

    Args:
        seed: a non-negative integer.
        side: diameter of the retina's circle in pixels. From about 400 on, single haemorrhages stay separate in the
            mask.
        grades: ICDR grades of (left, right). By default they are drawn in the proportions of IDRiD, with the two eyes
            correlated.
        findings: letters of ODIR among G C A H M O. Each is in both eyes or in one.
        camera: a name in CAMERAS; by default it is drawn.

    Raises:
        ValueError: an argument is out of range or unknown.
    """
    findings = tuple(dict.fromkeys(findings))
    _check(side, grades, findings, camera)
    traits_rng, choice_rng, plan_rng, *eye_rngs = np.random.default_rng(seed).spawn(5)
    traits = anatomy.draw_traits(traits_rng)
    drawn_grades, drawn_camera = draw_grades(choice_rng), str(choice_rng.choice(list(cameras.CAMERAS)))
    visit = choice_rng.normal(size=3)
    left_grade, right_grade = (int(grade) for grade in (drawn_grades if grades is None else grades))
    letters = _share_out(choice_rng, findings)
    left, right = (
        render_eye(
            rng,
            eye=name,
            traits=traits,
            plan=LESION_PLANS[grade](eye_plan_rng),
            grade=grade,
            letters=eye_letters,
            camera=camera or drawn_camera,
            side=side,
            visit=visit,
            labels=_labels(grade, eye_letters),
        )
        for name, rng, eye_plan_rng, grade, eye_letters in zip(
            EYES, eye_rngs, plan_rng.spawn(2), (left_grade, right_grade), letters, strict=True
        )
    )
    labels = _labels(max(left_grade, right_grade), set(letters[0]) | set(letters[1]))
    return Patient(int(seed), traits.age, traits.sex, labels, (left, right))
