"""Helpers that several layouts share: find files below a source folder, parse split names and class orders."""

import pathlib
from collections.abc import Callable, Iterable
from typing import Any, Literal

from dr_tf.console import UserError
from dr_tf.grades import GRADES
from dr_tf.image_files import files_below, is_image_file
from dr_tf.safe_names import printable
from tfrecords_builder.samples import Listing, Rejection, make_sample

CLASS_COUNTS = {"grade": len(GRADES), "any_dr": 2}

# Published names of splits -> our names.
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "valid": "validation", "validation": "validation", "val": "validation", "dev": "validation",
    "calibration": "calibration",
    "test": "test", "testing": "test",
}  # fmt: skip


def require_path(path: str | pathlib.Path, kind: Literal["file", "folder"], tree: str) -> pathlib.Path:
    """Return `path` if it exists.

    Args:
        path: A file or folder of the layout.
        kind: Which of the two it must be.
        tree: The layout's folder tree, for the error message.

    Raises:
        UserError: It does not exist. The message lists what is there instead, and shows the tree.
    """
    path = pathlib.Path(path)
    if path.is_dir() if kind == "folder" else path.is_file():
        return path
    raise UserError(f"{kind} not found: {printable(path)}; {_nearest_contents(path)}\nexpected:\n{tree}")


def _nearest_contents(path):
    parent = next(p for p in path.parents if p.exists() or p == p.parent)
    names = sorted(printable(p.name) + ("/" if p.is_dir() else "") for p in parent.iterdir()) if parent.is_dir() else []
    listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"{printable(parent)} contains {listed or 'nothing'}"


def first_existing_folder(*folders: pathlib.Path) -> pathlib.Path:
    """Return the first folder that exists, or else the last one.

    Archives unpack with or without a folder of their own name, so layouts accept both.
    """
    return next((folder for folder in folders if folder.is_dir()), folders[-1])


def collect_samples(entries: Iterable[tuple[str, pathlib.Path, Callable[[], dict[str, Any]]]]) -> Listing:
    """Make a sample of each entry. An entry whose fields raise a ValueError is rejected with its message as the reason.

    Args:
        entries: (image_id, path, function that returns the other fields of the sample).
    """
    samples, rejections = [], []
    for name, path, make_fields in entries:
        try:
            samples.append(make_sample(image_id=name, path=path, **make_fields()))
        except ValueError as error:
            rejections.append(Rejection(name, str(path), str(error)))
    return Listing(samples, rejections)


def find_images(
    folder: str | pathlib.Path, source: pathlib.Path | None = None
) -> tuple[list[pathlib.Path], list[Rejection]]:
    """Find the images below `folder`, without hidden files: by their extension, DICOM files also by their content.

    Args:
        folder: The folder to search.
        source: Rejections are named by their path below it; by default below `folder`.

    Returns:
        (sorted paths, a rejection for each folder that cannot be read, link to a folder, broken link and special file).
    """
    paths, rejections = [], []
    for path, reason in files_below(folder):
        if reason:
            rejections.append(Rejection(image_id_of(source or pathlib.Path(folder), path), str(path), reason))
        elif not path.name.startswith(".") and is_image_file(path):
            paths.append(path)
    return sorted(paths), sorted(rejections, key=lambda rejection: rejection.path)


def image_id_of(source: pathlib.Path, path: pathlib.Path) -> str:
    """Return the path below `source` as text.

    File names from old archives can contain bytes that are not UTF-8. These are written as backslash escapes.
    """
    return path.relative_to(source).as_posix().encode("utf-8", "backslashreplace").decode()


def parse_class_order(text: str, label: str) -> list[str]:
    """Parse a --classes flag: the class names, separated by commas, one for each value of a label.

    Args:
        text: The flag.
        label: "grade" or "any_dr".

    Raises:
        UserError: The number of classes is wrong, or a class is repeated.
    """
    classes = [name.strip() for name in text.split(",")]
    count = CLASS_COUNTS[label]
    if len(classes) != count:
        other = next((k for k, n in CLASS_COUNTS.items() if n == len(classes)), None)
        hint = f"; use --label {other}?" if other else ""
        raise UserError(f"{label} has {count} classes, but --classes names {len(classes)}{hint}")
    if len({name.lower() for name in classes}) < count:
        raise UserError(f"--classes names a class twice: {', '.join(classes)}")
    return classes


def parse_split(text: str) -> str:
    """Return our name of a published split name, or "" for an empty text.

    Raises:
        ValueError: The name is unknown.
    """
    if text == "":
        return ""
    if text.lower() not in SPLIT_NAMES:
        raise ValueError(f"unknown split {text!r}; known: {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[text.lower()]
