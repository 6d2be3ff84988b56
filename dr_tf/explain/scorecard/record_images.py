"""Examples of a record set as a network takes them: single images, or both eyes of a patient."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from dr_tf.fundus.prepare import resize_square


class ImageRecords(Protocol):
    """What the scorecard needs of `dr_tf.data.records.Records`."""

    @property
    def name(self) -> str:
        """NAME/CONFIG."""

    @property
    def directory(self) -> str:
        """Folder of the records."""

    @property
    def paired(self) -> bool:
        """Whether an example holds both eyes of a patient."""

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """{field: values of all examples}."""

    @property
    def eyes(self) -> tuple[str | None, ...]:
        """Eyes of an example; None for a single image."""

    @property
    def sources(self) -> np.ndarray:
        """Source of each example."""

    def parts_with_first_row(self) -> Sequence[tuple[ImageRecords, int]]:
        """Return the joined record sets with the number of their first row."""

    def present(self, eye: str | None = None) -> np.ndarray:
        """Return for each example whether it has an image, bool [n]."""

    def image(self, row: int, eye: str | None = None) -> np.ndarray:
        """Return the decoded image, uint8 RGB."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images of n examples.

    Attributes:
        images: {eye: uint8 [n, side, side, 3]}; the eye of single images is None. An absent eye is black.
        present: {eye: bool [n]}.
    """

    images: dict[str | None, np.ndarray]
    present: dict[str | None, np.ndarray]

    @classmethod
    def from_records(cls, records: ImageRecords, rows: np.ndarray, side: int) -> Examples:
        """Read the examples of these rows, resized to `side`."""
        black = np.zeros((side, side, 3), np.uint8)
        present = {eye: records.present(eye)[rows] for eye in records.eyes}
        images = {
            eye: [
                resize_square(records.image(row, eye), side) if is_present else black
                for row, is_present in zip(rows, of_eye, strict=True)
            ]
            for eye, of_eye in present.items()
        }
        return cls({eye: np.stack(of_eye) for eye, of_eye in images.items()}, present)

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    def take(self, rows: np.ndarray | slice) -> Examples:
        """Return the examples at these positions."""
        parts = ({eye: of_eye[rows] for eye, of_eye in part.items()} for part in (self.images, self.present))
        return Examples(*parts)

    def network_input(self) -> Any:
        """Return the images as a network takes them: an array, or a dict for paired eyes."""
        if None in self.images:
            return self.images[None]
        return self.images | {f"{eye}_present": present for eye, present in self.present.items()}

    def of_present_eyes(self, values: Mapping[str | None, Any], i: int) -> dict[str | None, Any]:
        """Return {eye: value} of example i, without absent eyes, from {eye: values of all examples}."""
        return {eye: values[eye][i] for eye, present in self.present.items() if present[i]}

    def with_images(self, i: int, images: Mapping[str | None, np.ndarray]) -> Examples:
        """Return copies of example i with other images, {eye: [copies, side, side, 3]}."""
        copies = self.take(np.full(len(next(iter(images.values()))), i))
        return dataclasses.replace(copies, images={**copies.images, **images})


def by_eye(maps: Any) -> dict[str | None, np.ndarray]:
    """Return the maps of an Explanation as {eye: maps}; the eye of single images is None."""
    return maps if isinstance(maps, dict) else {None: maps}
