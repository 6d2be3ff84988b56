"""A patient: both eyes, what they share, and the labels that follow from what was drawn."""

import dataclasses

import numpy as np

from dr_tf import grades as scale
from dr_tf.fundus.synthesis import anatomy, cameras
from dr_tf.fundus.synthesis.eye import Eye, photograph
from dr_tf.fundus.synthesis.findings import FINDINGS
from dr_tf.fundus.synthesis.grading import PLANS
from dr_tf.grades import EYES

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
_BOTH_EYES = 0.6
_SMALLEST_SIDE = 64


@dataclasses.dataclass(frozen=True)
class Patient:
    """Two eyes in the order (left, right) and labels in the order N D G C A H M O: N only where nothing else is."""

    seed: int
    age: int
    sex: str
    labels: tuple[int, ...]
    eyes: tuple[Eye, Eye]


def _labels(grade, letters):
    found = set(letters) | ({"D"} if grade > 0 else set())
    return tuple(int(letter in found if letter != "N" else not found) for letter in scale.ODIR_LABELS)


def draw_grades(rng, shares=GRADE_SHARES):
    """Grades of (left, right): one eye by `shares`, the fellow eye mostly the same or a neighbouring grade."""
    first = int(rng.choice(5, p=shares))
    second = int(np.clip(first + rng.choice([-1, 0, 1], p=[0.15, 0.7, 0.15]), 0, 4))
    return (first, second) if rng.random() < 0.5 else (second, first)


def _share_out(rng, findings):
    """The findings of (left, right): each in both eyes or in one."""
    left, right = [], []
    for letter in findings:
        both, first = rng.random() < _BOTH_EYES, rng.random() < 0.5
        left += [letter] if both or first else []
        right += [letter] if both or not first else []
    return tuple(left), tuple(right)


def _check(side, grades, findings, camera):
    if side < _SMALLEST_SIDE:
        raise ValueError(f"side must be at least {_SMALLEST_SIDE} pixels, got {side}")
    if grades is not None and (np.shape(grades) != (2,) or any(grade not in range(len(PLANS)) for grade in grades)):
        raise ValueError(f"grades must be two ICDR grades from 0 to {len(PLANS) - 1} (left, right), got {grades!r}")
    unknown = [letter for letter in findings if letter not in FINDINGS]
    if unknown:
        raise ValueError(f"unknown finding {unknown[0]!r}; known: {', '.join(FINDINGS)}")
    if camera is not None and camera not in cameras.CAMERAS:
        raise ValueError(f"unknown camera {camera!r}; known: {', '.join(cameras.CAMERAS)}")


def render_patient(seed, *, side=512, grades=None, findings=(), camera=None):
    """Draws a patient's two photographs; the same arguments give the same pixels.

    Anatomy, camera and findings do not depend on the grades: the same seed at other grades is the same patient.

    Args:
        seed: a non-negative integer.
        side: diameter of the retina's circle in pixels. Single haemorrhages stay apart in the mask from about 400 on.
        grades: ICDR grades of (left, right), or None: drawn in IDRiD's shares, the two eyes correlated.
        findings: ODIR letters among G C A H M O; each comes in both eyes or in one.
        camera: a name in CAMERAS, or None: drawn.
    """
    _check(side, grades, findings, camera)
    people, choices, plans, *eyes = np.random.default_rng(seed).spawn(5)
    traits = anatomy.draw_traits(people)
    drawn, style = draw_grades(choices), str(choices.choice(list(cameras.CAMERAS)))
    visit = choices.normal(size=3)
    grades = tuple(int(grade) for grade in (drawn if grades is None else grades))
    letters = _share_out(choices, tuple(dict.fromkeys(findings)))
    both = tuple(
        photograph(
            rng, eye=name, traits=traits, plan=PLANS[grade](plan_rng), grade=grade, letters=own,
            camera=camera or style, side=side, visit=visit, labels=_labels(grade, own),
        )
        for name, rng, plan_rng, grade, own in zip(EYES, eyes, plans.spawn(2), grades, letters, strict=True)
    )  # fmt: skip
    found = {letter for own in letters for letter in own}
    return Patient(int(seed), traits.age, traits.sex, _labels(max(grades), found), both)
