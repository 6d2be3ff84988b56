"""What one answer is about: one photograph, or both eyes of a patient of whom one may be absent."""

import dataclasses
import os
from collections.abc import Iterable

from dr_tf.console import UserError
from dr_tf.grades import EYES
from dr_tf.inference.patients import whose

SINGLE = ""  # the eye of a case of one photograph


@dataclasses.dataclass(frozen=True)
class Case:
    """`photographs`: {eye: the photographs of it}, each a path, bytes or uint8 RGB; the eye of a single one is SINGLE.

    Where there are several of an eye, the most gradable one is shown to the network.
    """

    name: str
    photographs: dict[str, tuple]

    @classmethod
    def of(cls, photograph, name=""):
        """The case of one photograph."""
        named = isinstance(photograph, (str, os.PathLike))
        return cls(name or (str(photograph) if named else "photograph"), {SINGLE: (photograph,)})


def as_cases(things) -> Iterable[Case]:
    """Cases as they are; a photograph becomes one, called by its path or its place among the things."""
    for number, thing in enumerate(things, 1):
        named = isinstance(thing, (str, os.PathLike))
        yield thing if isinstance(thing, Case) else Case.of(thing, "" if named else f"photograph {number}")


def pairs(paths, table=None) -> list[Case]:
    """A case of both eyes for each patient, in the order in which they first came.

    Args:
        paths: photographs whose names, or whose row in `table`, say whose eye they show.
        table: {image: (patient, eye)} as `patients.read_table` gives it.

    Raises:
        UserError: where nothing says which eye a photograph shows.
    """
    eyes, names = {}, {}
    for path in paths:
        key, patient, eye = whose(str(path), table)
        if not eye:
            raise UserError(
                f"{path}: its name does not say which eye it shows, and this model takes both eyes of a patient; call it "
                "PATIENT_left or PATIENT_right, or name it in a --patient_table"
            )
        names[key] = patient
        eyes.setdefault(key, {}).setdefault(eye, []).append(path)
    return [Case(names[key], {eye: tuple(found[eye]) for eye in EYES if eye in found}) for key, found in eyes.items()]
