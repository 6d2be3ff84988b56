"""What several layouts share: finding photographs below a folder, and saying what was looked for and what was found."""

import pathlib

from tfrecords_builder.samples import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")

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


def photographs_in(folder):
    """Files below `folder` that are named like photographs, in a fixed order; hidden ones are not meant."""
    return sorted(
        path
        for path in pathlib.Path(folder).rglob("*")
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )


def split_named(text):
    """The role that a publisher's split name means; "" for none, a ValueError for an unknown one."""
    if text == "":
        return ""
    if text.lower() not in SPLIT_NAMES:
        raise ValueError(f"unknown split {text!r}; known: {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[text.lower()]
