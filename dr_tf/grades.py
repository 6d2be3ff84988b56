"""The ICDR grading scale, the definitions of "positive", the ODIR labels, the two eyes and the sexes, shared by all packages.

Higher always means more disease. `ABSENT` (-1) marks an unknown label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

ABSENT = -1

EYES = ("left", "right")

# What a network of both eyes may know of the patient, each a number: the age in years, and the position in SEXES; ABSENT
# if unknown.
PATIENT_FIELDS = ("age", "sex")
SEXES = ("female", "male")

# International Clinical Diabetic Retinopathy scale (Wilkinson et al., Ophthalmology 2003).
GRADES = ("no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "proliferative DR")

# Risk of diabetic macular edema: hard exudates anywhere (1), within one disc diameter of the fovea (2).
DME_RISKS = ("no DME", "DME elsewhere", "DME near the fovea")

# ODIR-5K: one letter each, in the order of its label vector.
ODIR_LABELS = {
    "N": "normal",
    "D": "diabetes",
    "G": "glaucoma",
    "C": "cataract",
    "A": "age-related macular degeneration",
    "H": "hypertension",
    "M": "pathological myopia",
    "O": "other",
}

ANY_DR_GRADE = 1
REFERABLE_GRADE = 2
VISION_THREATENING_GRADE = 3
REFERABLE_DME = 2

# The label fields of a record (grade, any_dr, dme, labels) -> True, False, or None where they do not determine it.
_Definition = Callable[[Mapping[str, Any]], bool | None]


def _at_least(threshold: int) -> _Definition:
    """Positive from a grade on. Where the grade is unknown, `any_dr` of 0 still means below every threshold."""

    def positive(eye):
        if eye["grade"] != ABSENT:
            return bool(eye["grade"] >= threshold)
        return False if eye["any_dr"] == 0 else None

    return positive


def _any_dr(eye):
    return bool(eye["any_dr"]) if eye["any_dr"] != ABSENT else _at_least(ANY_DR_GRADE)(eye)


def _referable_or_dme(eye):
    """Positive if either is known to be positive, negative only if both are known to be negative."""
    referable = _at_least(REFERABLE_GRADE)(eye)
    edema = _referable_dme(eye)
    if referable or edema:
        return True
    return None if referable is None or edema is None else False


def _referable_dme(eye):
    return bool(eye["dme"] >= REFERABLE_DME) if eye["dme"] != ABSENT else None


def _odir(index: int) -> _Definition:
    return lambda eye: bool(eye["labels"][index]) if eye["labels"][index] != ABSENT else None


POSITIVE_DEFINITIONS: dict[str, _Definition] = {
    "any_dr": _any_dr,
    "referable": _at_least(REFERABLE_GRADE),
    "referable_dme": _referable_dme,
    "referable_or_dme": _referable_or_dme,
    "vision_threatening": _at_least(VISION_THREATENING_GRADE),
    **{f"odir_{letter}": _odir(i) for i, letter in enumerate(ODIR_LABELS)},
}


def is_positive(definition: str, eye: Mapping[str, Any]) -> bool | None:
    """Return whether an eye is positive by a named definition.

    Args:
        definition: a name in `POSITIVE_DEFINITIONS`.
        eye: the label fields of a record: grade, any_dr, dme and labels.

    Returns:
        True or False; None where the labels do not determine it.

    Raises:
        ValueError: the definition is unknown.
    """
    if definition not in POSITIVE_DEFINITIONS:
        known = ", ".join(POSITIVE_DEFINITIONS)
        raise ValueError(f"unknown positive definition {definition!r}; known: {known}")
    return POSITIVE_DEFINITIONS[definition](eye)


def sex_number(sex: str) -> int:
    """Return the position of a sex in `SEXES`; ABSENT for any other text."""
    return SEXES.index(sex) if sex in SEXES else ABSENT
