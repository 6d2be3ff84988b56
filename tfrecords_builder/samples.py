"""The data classes that a layout returns: a `Sample` for each image, a `Rejection` for each unusable row or file."""

import dataclasses
import pathlib
from typing import Any

from dr_tf.grades import ABSENT, ANY_DR_GRADE, DME_RISKS, GRADES, ODIR_LABELS

SPLITS = ("train", "validation", "calibration", "test")
UNKNOWN_LABELS = (ABSENT,) * len(ODIR_LABELS)

_MAXIMUM_AGE = 130


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image with its published labels. An empty string or -1 means that a value is unknown.

    Attributes:
        path: The image file; None for a sample that was read back from records.
        split: The published split. The builder assigns one to samples that have none.
        labels: The eight ODIR labels.
        keywords: The diagnostic keywords of the eye, as the publisher's doctors wrote them.
        masks: Lesion type and mask file. Each mask is as large as the original image.
        test_copy: For an image of a published test split: the image_id of another image that it is a copy of. The leak
            audit sets it.
        frames: Of a DICOM file with several frames, those that show this eye, counted from 1. The most gradable one is
            taken.
    """

    image_id: str
    path: pathlib.Path | None
    patient_id: str = ""
    eye: str = ""
    split: str = ""
    source: str = ""
    camera: str = ""
    age: int = ABSENT
    sex: str = ""
    grade: int = ABSENT
    dme: int = ABSENT
    any_dr: int = ABSENT
    labels: tuple[int, ...] = UNKNOWN_LABELS
    keywords: str = ""
    masks: tuple[tuple[str, pathlib.Path], ...] = ()
    test_copy: str = ""
    frames: tuple[int, ...] = ()

    @property
    def group(self) -> str:
        """The patient_id, or the image_id where the patient is unknown. A group is never divided between splits."""
        return self.patient_id or self.image_id

    def strata(self, *, by_source: bool = False) -> tuple[str, ...]:
        """Return the strata by which splits are balanced.

        Args:
            by_source: Whether to balance the grades within each source too.
        """
        grade = f"grade {self.grade}" if self.grade != ABSENT else f"any_dr {self.any_dr}"
        return (grade, f"{self.source}: {grade}") if by_source else (grade,)


@dataclasses.dataclass(frozen=True)
class Rejection:
    """An image or a table row that is left out, and the reason."""

    image_id: str
    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """The samples and rejections of a whole source folder."""

    samples: list[Sample]
    rejections: list[Rejection]


def make_sample(*, image_id: str, path: str | pathlib.Path, **fields: Any) -> Sample:
    """Make a sample after checking its labels. `any_dr` is derived from the grade.

    Args:
        image_id: Unique within the record set.
        path: The image file.
        fields: Further fields of `Sample`.

    Raises:
        ValueError: A label is out of range, or two labels contradict each other.
    """
    grade, any_dr = fields.get("grade", ABSENT), fields.get("any_dr", ABSENT)
    _check_range("grade", grade, len(GRADES))
    _check_range("DME risk", fields.get("dme", ABSENT), len(DME_RISKS))
    _check_range("any_dr", any_dr, 2)
    _check_range("age", fields.get("age", ABSENT), _MAXIMUM_AGE + 1)
    if grade != ABSENT:
        implied = int(grade >= ANY_DR_GRADE)
        if any_dr not in (ABSENT, implied):
            raise ValueError(f"grade {grade} contradicts any_dr {any_dr}")
        fields["any_dr"] = implied
    return Sample(image_id=image_id, path=pathlib.Path(path), **fields)


def _check_range(name, value, count):
    if value != ABSENT and not 0 <= value < count:
        raise ValueError(f"unknown {name} {value}: it must be 0 to {count - 1}")


def drop_repeated_ids(listing: Listing) -> Listing:
    """Keep one sample per image_id. Where the labels of repeated samples differ, reject all of them."""
    first_by_id: dict[str, Sample] = {}
    contradictory = set()
    rejections = list(listing.rejections)
    for sample in listing.samples:
        first = first_by_id.setdefault(sample.image_id, sample)
        if first is sample:
            continue
        is_equal = first == sample
        reason = "listed twice" if is_equal else "listed twice with different labels"
        rejections.append(Rejection(sample.image_id, str(sample.path), reason))
        if not is_equal and sample.image_id not in contradictory:
            contradictory.add(sample.image_id)
            rejections.append(Rejection(first.image_id, str(first.path), reason))
    return Listing([s for s in first_by_id.values() if s.image_id not in contradictory], rejections)
