"""A record set on disk, read by example number.

An epoch can then be a list of numbers: shuffling is over the whole set, every sampling is exact, and a run that resumes
at any epoch starts at once. The columns are in memory, the photographs stay in the files until they are asked for.
"""

import csv
import dataclasses
import hashlib
import itertools
import pathlib

import cv2
import numpy as np

from dr_tf.console import UserError
from dr_tf.data.joined_records import check_alike, joined_columns
from dr_tf.data.record_index import scan
from dr_tf.grades import EYES

SPLITS = ("train", "validation", "calibration", "test")
NO_FOLD = -1
JOIN = "+"  # between the names of sets that are one

_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """`columns` holds every field but pictures, and "split", "fold" and "dataset"; a field of an eye is "left/grade".

    Of several record sets `name` has all their names with "+" between them, and `directory` is the first one's.
    """

    name: str
    directory: str
    image_size: int
    paired: bool
    columns: dict[str, np.ndarray]
    fingerprint: str  # of the records' content
    files: list[np.ndarray]
    places: dict[str | None, np.ndarray]  # of an eye: [n, (file, first byte, bytes)]
    _parts: tuple["Records", ...] = ()

    def __len__(self):
        return len(self.columns["split"])

    @property
    def eyes(self):
        return EYES if self.paired else (None,)

    @property
    def parts(self):
        """The single record sets that this one is joined of; of a single one itself."""
        return self._parts or (self,)

    def placed(self):
        """Each of the `parts` with the number that its first example has here."""
        lengths = [len(part) for part in self.parts]
        return list(zip(self.parts, itertools.accumulate(lengths[:-1], initial=0), strict=True))

    @property
    def sources(self):
        """Text [n]: where an example comes from as its publisher says, else the name of its record set."""
        found = self.columns["dataset"]
        for eye in reversed(self.eyes):  # of a pair the left eye's, if it says anything
            source = self.columns.get(f"{eye}/source" if eye else "source", np.array(""))
            found = np.where(source != "", source, found)
        return found

    def rows(self, split):
        """Numbers of a split's examples."""
        known = list(dict.fromkeys(self.columns["split"].tolist()))
        if split not in known:
            raise UserError(f"{self.name} has no split {split!r}; it has {', '.join(known)}")
        return np.flatnonzero(self.columns["split"] == split)

    def fold(self, number):
        """(rows outside of the fold, rows of the fold), of everything that has one: a test split has none."""
        known = np.unique(self.columns["fold"][self.columns["fold"] != NO_FOLD]).tolist()
        if number not in known:
            what = f"folds {', '.join(map(str, known))}" if known else "no folds: there is no folds.csv beside it"
            raise UserError(f"{self.name} has no fold {number}; it has {what}")
        folds = self.columns["fold"]
        return np.flatnonzero((folds != number) & (folds != NO_FOLD)), np.flatnonzero(folds == number)

    def present(self, eye=None):
        """Bool [n]: whether there is a photograph. Only an eye of a pair can be absent."""
        return self.columns[f"{eye}_present"] if eye else np.ones(len(self), bool)

    def encoded(self, row, eye=None):
        """The JPEG as stored."""
        return self._bytes(row, eye).tobytes()

    def photograph(self, row, eye=None):
        """uint8 RGB [image_size, image_size, 3]."""
        pixels = cv2.imdecode(self._bytes(row, eye), _RGB)
        if pixels is None:
            part, first = next(found for found in reversed(self.placed()) if found[1] <= row)
            raise UserError(f"{part.directory}: the photograph of example {row - first} cannot be decoded")
        return pixels

    def _bytes(self, row, eye):
        file, start, length = self.places[eye][row]
        return self.files[file][start : start + length]


def open_records(root, dataset):
    """The newest version of RECORDS/NAME/CONFIG, where `dataset` is NAME/CONFIG; NAME is enough if it has one CONFIG.

    Several, in a list or with "+" between them, become one: the examples of one set follow those of the other.
    """
    names = dataset.split(JOIN) if isinstance(dataset, str) else dataset
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"a record set is named as NAME/CONFIG, several as a list of such names, not {dataset!r}")
    parts = [_opened(root, name) for name in names]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _opened(root, dataset):
    folder = _newest(_config(pathlib.Path(root), dataset))
    found = scan(folder, SPLITS)
    columns, name = found.columns, folder.parts[-3]
    columns["fold"] = _folds(folder, columns)
    columns["dataset"] = np.full(len(columns["fold"]), name)
    return Records(
        name=f"{name}/{folder.parts[-2]}",
        directory=str(folder),
        image_size=found.image_size,
        paired=found.paired,
        columns=columns,
        fingerprint=found.fingerprint,
        files=[np.memmap(path, np.uint8, "r").view(np.ndarray) for path in found.paths],
        places=found.places,
    )


def _joined(parts):
    check_alike(parts)
    before = itertools.accumulate((len(part.files) for part in parts[:-1]), initial=0)
    places = [
        {eye: place + np.array((files, 0, 0)) for eye, place in part.places.items()}
        for part, files in zip(parts, before, strict=True)
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


def _config(root, dataset):
    if not root.is_dir():
        raise UserError(f"there is no folder of records {root}")
    folder = root / dataset
    if not dataset or not folder.is_dir():
        there = sorted("/".join(p.parts[-4:-2]) for p in root.glob("*/*/*/dataset_info.json"))
        raise UserError(f"no records {dataset!r} in {root}; there are: {', '.join(dict.fromkeys(there)) or 'none'}")
    if _versions(folder):
        return folder
    configs = [path for path in sorted(folder.iterdir()) if path.is_dir() and _versions(path)]
    if len(configs) != 1:
        names = ", ".join(f"{dataset}/{path.name}" for path in configs)
        raise UserError(f"{folder} holds {'several record sets; name one of: ' + names if configs else 'no records'}")
    return configs[0]


def _versions(folder):
    return [path.parent for path in folder.glob("*/dataset_info.json")]


def _newest(folder):
    return max(_versions(folder), key=lambda path: [(part.isdigit(), part.zfill(9)) for part in path.name.split(".")])


def _folds(folder, columns):
    """Of pairs a fold holds patients, else photographs."""
    name = "image_id" if "image_id" in columns else "patient_id"
    path = folder / "folds.csv"
    if not path.exists():
        return np.full(len(columns[name]), NO_FOLD)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            fold = {line[name]: int(line["fold"]) for line in csv.DictReader(file)}
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
    return np.array([fold.get(key, NO_FOLD) for key in columns[name].tolist()])
