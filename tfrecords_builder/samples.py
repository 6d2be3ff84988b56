"""What a layout yields: one `Sample` a photograph, and a `Rejection` for every row or file that cannot be one."""

import dataclasses
import pathlib

from dr_tf.grades import ABSENT, ANY_DR_GRADE, DME_RISKS, GRADES, ODIR_LABELS

SPLITS = ("train", "validation", "calibration", "test")
SEXES = ("female", "male")

_OLDEST = 130

UNKNOWN_LABELS = (ABSENT,) * len(ODIR_LABELS)


@dataclasses.dataclass(frozen=True)
class Sample:
    """A photograph and what its publisher says of it. Empty text and -1 stand for what is not known."""

    image_id: str
    path: pathlib.Path
    patient_id: str = ""
    eye: str = ""
    split: str = ""  # as published; the builder gives a split to samples that have none
    source: str = ""
    camera: str = ""
    age: int = ABSENT
    sex: str = ""
    grade: int = ABSENT
    dme: int = ABSENT
    any_dr: int = ABSENT
    labels: tuple[int, ...] = UNKNOWN_LABELS
    keywords: str = ""  # what the publisher's doctors wrote of this eye, as they wrote it
    masks: tuple[tuple[str, pathlib.Path], ...] = ()  # lesion type and picture, as large as the photograph
    test_copy: str = ""  # the leak audit says it: what a photograph of a published test split is a copy of

    @property
    def group(self):
        """What must not be torn apart by a split: the patient, or the photograph alone where no patient is known."""
        return self.patient_id or self.image_id

    def strata(self, several_sources=False):
        """What splits are balanced by: the grade, and where sources are several, the grade within this one, too."""
        grade = f"grade {self.grade}" if self.grade != ABSENT else f"any_dr {self.any_dr}"
        return (grade, f"{self.source}: {grade}") if several_sources else (grade,)


@dataclasses.dataclass(frozen=True)
class Rejection:
    image_id: str
    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """All that a layout found below its source folder."""

    samples: list[Sample]
    rejections: list[Rejection]


def make_sample(*, image_id, path, **fields):
    """A checked sample: any_dr follows from the grade, and labels that contradict each other are a ValueError."""
    grade, any_dr = fields.get("grade", ABSENT), fields.get("any_dr", ABSENT)
    _check_range("grade", grade, len(GRADES))
    _check_range("DME risk", fields.get("dme", ABSENT), len(DME_RISKS))
    _check_range("any_dr", any_dr, 2)
    _check_range("age", fields.get("age", ABSENT), _OLDEST + 1)
    if grade != ABSENT:
        implied = int(grade >= ANY_DR_GRADE)
        if any_dr not in (ABSENT, implied):
            raise ValueError(f"grade {grade} contradicts any_dr {any_dr}")
        fields["any_dr"] = implied
    return Sample(image_id=image_id, path=pathlib.Path(path), **fields)


def _check_range(name, value, count):
    if value != ABSENT and not 0 <= value < count:
        raise ValueError(f"unknown {name} {value}: it must be 0 to {count - 1}")


def without_repeats(listing):
    """One sample an image_id. Equal repeats count once; where their labels differ, none can be believed."""
    kept, rejections = {}, list(listing.rejections)
    doubtful = set()
    for sample in listing.samples:
        first = kept.setdefault(sample.image_id, sample)
        if first is sample:
            continue
        same = first == sample
        reason = "listed twice" if same else "listed twice with different labels"
        rejections.append(Rejection(sample.image_id, str(sample.path), reason))
        if not same and sample.image_id not in doubtful:
            doubtful.add(sample.image_id)
            rejections.append(Rejection(first.image_id, str(first.path), reason))
    return Listing([s for s in kept.values() if s.image_id not in doubtful], rejections)
