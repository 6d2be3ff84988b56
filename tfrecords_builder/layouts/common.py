"""What several layouts share: finding photographs below a folder, and saying what was looked for and what was found."""

import pathlib

from dr_tf.console import UserError
from dr_tf.grades import GRADES
from tfrecords_builder.samples import Listing, Rejection, make_sample

EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
CLASS_COUNTS = {"grade": len(GRADES), "any_dr": 2}

# Names that publishers give to the four roles.
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "valid": "validation", "validation": "validation", "val": "validation", "dev": "validation",
    "calibration": "calibration",
    "test": "test", "testing": "test",
}  # fmt: skip


def require(path, kind, tree):
    """`path`, or a line that names it, what is there instead, and the layout's tree."""
    path = pathlib.Path(path)
    if path.is_dir() if kind == "folder" else path.is_file():
        return path
    raise UserError(f"looked for the {kind} {path} and did not find it; {_found_instead(path)}\nexpected:\n{tree}")


def _found_instead(path):
    parent = next(p for p in path.parents if p.exists() or p == p.parent)
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in parent.iterdir()) if parent.is_dir() else []
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"{parent} holds {shown or 'nothing'}"


def first_folder(*folders):
    """The first that is there, else the last: archives unpack with and without the folder that their name says."""
    return next(
        (pathlib.Path(folder) for folder in folders if pathlib.Path(folder).is_dir()), pathlib.Path(folders[-1])
    )


def collect(entries):
    """A Listing of (image_id, path, function that makes the sample's fields); its ValueError is a rejection's reason."""
    samples, rejections = [], []
    for name, path, make_fields in entries:
        try:
            samples.append(make_sample(image_id=name, path=path, **make_fields()))
        except ValueError as error:
            rejections.append(Rejection(name, str(path), str(error)))
    return Listing(samples, rejections)


def photographs_in(folder):
    """What is named like a photograph below `folder`, in a fixed order; hidden files are not meant.

    Folders and broken links of such a name are among them, so that cropping says what is wrong with each.
    """
    return sorted(
        path
        for path in pathlib.Path(folder).rglob("*")
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    )


def image_id(source, path):
    """The path below `source`; bytes that are no UTF-8, as old archives have them in names, are written out."""
    return path.relative_to(source).as_posix().encode("utf-8", "backslashreplace").decode()


def class_order(text, label):
    """The names in a --classes flag, one for each value of `label`, least disease first."""
    classes = [name.strip() for name in text.split(",")]
    count = CLASS_COUNTS[label]
    if len(classes) != count:
        other = next((k for k, n in CLASS_COUNTS.items() if n == len(classes)), None)
        hint = f"; are they {other}?" if other else ""
        raise UserError(f"{label} has {count} classes, --classes names {len(classes)}{hint}")
    if len({name.lower() for name in classes}) < count:
        raise UserError(f"--classes names a class twice: {', '.join(classes)}")
    return classes


def split_named(text):
    """The role that a publisher's split name means; "" for none, a ValueError for an unknown one."""
    if text == "":
        return ""
    if text.lower() not in SPLIT_NAMES:
        raise ValueError(f"unknown split {text!r}; known: {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[text.lower()]
