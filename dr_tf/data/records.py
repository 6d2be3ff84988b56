"""Record sets on disk, read by example number.

An epoch is then a list of numbers: shuffling covers the whole set, sampling is exact, and a resumed run starts at any
epoch at once. The columns are in memory; images stay in the memory-mapped files until they are read.
"""

import csv
import dataclasses
import hashlib
import itertools
import os
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from dr_tf.console import UserError
from dr_tf.data.find_records import version_folder
from dr_tf.data.joined_records import check_compatible, joined_columns
from dr_tf.data.record_index import read_index
from dr_tf.fundus.geometry import Geometry
from dr_tf.grades import ABSENT, EYES, PATIENT_FIELDS, sex_number
from dr_tf.safe_names import from_csv_cell

SPLITS = ("train", "validation", "calibration", "test")
NO_FOLD = -1
JOIN = "+"  # between the names of joined record sets

_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """A record set, or several joined into one.

    Attributes:
        name: NAME/CONFIG; for joined sets the names of all with "+" between them.
        directory: folder of the records; for joined sets that of the first.
        image_size: side of the images in pixels.
        paired: whether an example holds both eyes of a patient.
        columns: {field: values of all examples} of every field but images, and "split", "fold" and "dataset". Fields of
            one eye of a pair are named as in "left/grade".
        fingerprint: digest of the content.
        files: memory-mapped TFRecord files.
        places: {eye: [n, (file number, first byte, number of bytes)]} of the encoded images; the eye is None for single
            images.
    """

    name: str
    directory: str
    image_size: int
    paired: bool
    columns: dict[str, np.ndarray]
    fingerprint: str
    files: list[np.ndarray]
    places: dict[str | None, np.ndarray]
    _parts: tuple["Records", ...] = ()

    def __len__(self) -> int:
        return len(self.columns["split"])

    @property
    def eyes(self) -> tuple[str | None, ...]:
        """Eyes of an example: left and right, or None for a single image."""
        return EYES if self.paired else (None,)

    @property
    def parts(self) -> tuple["Records", ...]:
        """The record sets that this one is joined from; itself if it is a single one."""
        return self._parts or (self,)

    def parts_with_first_row(self) -> list[tuple["Records", int]]:
        """Return each of the `parts` with the row number that its first example has here."""
        lengths = [len(part) for part in self.parts]
        return list(zip(self.parts, itertools.accumulate(lengths[:-1], initial=0), strict=True))

    @property
    def sources(self) -> np.ndarray:
        """Source of each example as its publisher names it, else the name of its record set; text [n]."""
        sources = self.columns["dataset"]
        for eye in reversed(self.eyes):  # of a pair the left eye's source, if it has one
            of_eye = self.columns.get(f"{eye}/source" if eye else "source", np.array(""))
            sources = np.where(of_eye != "", of_eye, sources)
        return sources

    def rows(self, split: str) -> np.ndarray:
        """Return the row numbers of a split, or of several such as "train+validation".

        Raises:
            UserError: there is no such split.
        """
        known, names = list(dict.fromkeys(self.columns["split"].tolist())), split.split(JOIN)
        if unknown := [name for name in names if name not in known]:
            raise UserError(f"{self.name} has no split {unknown[0]!r}; it has {', '.join(known)}")
        return np.flatnonzero(np.isin(self.columns["split"], names))

    def present(self, eye: str | None = None) -> np.ndarray:
        """Return for each example whether it has an image, bool [n]. Only one eye of a pair can be absent."""
        return self.columns[f"{eye}_present"] if eye else np.ones(len(self), bool)

    def patient_values(self) -> dict[str, np.ndarray]:
        """Return what a network of both eyes takes beside the images, for each example.

        Returns:
            {"left_present", "right_present": bool [n], "age", "sex": float32 [n] as in `dr_tf.grades.PATIENT_FIELDS`}.
        """
        unknown = np.full(len(self), ABSENT)
        sexes = (
            np.array([sex_number(sex) for sex in self.columns["sex"].tolist()]) if "sex" in self.columns else unknown
        )
        values = {"age": self.columns.get("age", unknown), "sex": sexes}
        return {f"{eye}_present": self.present(eye) for eye in EYES} | {
            name: values[name].astype(np.float32) for name in PATIENT_FIELDS
        }

    def geometry(self, row: int, eye: str | None = None) -> Geometry:
        """Return where an image's crop lies on the original."""
        prefix = f"{eye}/" if eye else ""
        names = ("original_size", "circle", "crop", "padding")
        (width, height), circle, crop, padding = (tuple(self.columns[prefix + name][row].tolist()) for name in names)
        return Geometry(width, height, circle, crop, padding, self.image_size)

    def encoded_image(self, row: int, eye: str | None = None) -> bytes:
        """Return the image as stored, a JPEG file."""
        return self._bytes(row, eye).tobytes()

    def image(self, row: int, eye: str | None = None) -> np.ndarray:
        """Return the decoded image, uint8 RGB [image_size, image_size, 3]."""
        pixels = cv2.imdecode(self._bytes(row, eye), _RGB)
        if pixels is None:
            part, first = next(found for found in reversed(self.parts_with_first_row()) if found[1] <= row)
            raise UserError(
                f"{part.directory}: the image of example {row - first} cannot be decoded; build the records again"
            )
        return pixels

    def _bytes(self, row, eye):
        file, start, length = self.places[eye][row]
        return self.files[file][start : start + length]


def open_records(root: str | os.PathLike, dataset: str | Sequence[str]) -> Records:
    """Open a record set, or several as one.

    Args:
        root: folder of all record sets; or its URL, such as `s3://BUCKET/FOLDER`, from which the sets are copied first.
        dataset: NAME/CONFIG, or NAME if it has one CONFIG; several in a list or with "+" between them. The examples of
            one set follow those of the other.

    Returns:
        The records of the newest version.

    Raises:
        UserError: the records are absent, damaged, or do not fit together.
    """
    names = dataset.split(JOIN) if isinstance(dataset, str) else dataset
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"a record set is named as NAME/CONFIG, several as a list of such names, not {dataset!r}")
    parts = [open_folder(version_folder(root, name)) for name in names]
    return parts[0] if len(parts) == 1 else _joined(parts)


def open_folder(folder: str | os.PathLike) -> Records:
    """Open the record set in a folder RECORDS/NAME/CONFIG/VERSION.

    Raises:
        UserError: the folder is not a record set, or it is damaged.
    """
    folder = pathlib.Path(folder)
    index = read_index(folder, SPLITS)
    columns, name = index.columns, folder.parts[-3]
    columns["fold"] = _read_folds(folder, columns)
    columns["dataset"] = np.full(len(columns["fold"]), name)
    return Records(
        name=f"{name}/{folder.parts[-2]}",
        directory=str(folder),
        image_size=index.image_size,
        paired=index.paired,
        columns=columns,
        fingerprint=index.fingerprint,
        files=[np.memmap(path, np.uint8, "r").view(np.ndarray) for path in index.paths],
        places=index.places,
    )


def _joined(parts):
    check_compatible(parts)
    files_before = itertools.accumulate((len(part.files) for part in parts[:-1]), initial=0)
    places = [
        {eye: place + np.array((files, 0, 0)) for eye, place in part.places.items()}
        for part, files in zip(parts, files_before, strict=True)
    ]
    return dataclasses.replace(
        parts[0],
        name=JOIN.join(part.name for part in parts),
        columns=joined_columns(parts),
        fingerprint=hashlib.sha256(" ".join(part.fingerprint for part in parts).encode()).hexdigest(),
        files=[file for part in parts for file in part.files],
        places={eye: np.concatenate([place[eye] for place in places]) for eye in parts[0].eyes},
        _parts=tuple(parts),
    )


def _read_folds(folder, columns):
    """Fold of each example, by image_id; by patient_id for pairs."""
    name = "image_id" if "image_id" in columns else "patient_id"
    path = folder / "folds.csv"
    if not path.exists():
        return np.full(len(columns[name]), NO_FOLD)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            fold = {from_csv_cell(line[name]): int(line["fold"]) for line in csv.DictReader(file)}
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:  # TypeError: a row that is cut short
        raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
    folds = np.array([fold.get(key, NO_FOLD) for key in columns[name].tolist()])
    missing = columns[name][(folds == NO_FOLD) & (columns["split"] != "test")]
    if len(missing):
        raise UserError(
            f"{path} is cut short: it has no line for {str(missing[0])!r} and {len(missing) - 1} others; build the records again"
        )
    return folds
