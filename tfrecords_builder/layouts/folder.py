"""Any data set with one folder per class, with or without split folders above them: read the images of each folder."""

import argparse
import os
import pathlib

from dr_tf.console import UserError
from dr_tf.image_files import SUFFIXES, reason_to_skip
from dr_tf.safe_names import printable
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import (
    CLASS_COUNTS,
    SPLIT_NAMES,
    find_images,
    image_id_of,
    parse_class_order,
    require_path,
)
from tfrecords_builder.samples import Listing, Rejection, make_sample

TREE = """\
  SOURCE/train|valid|test/CLASS/*.jpg        (or validation, val, dev, calibration, testing, …)
  SOURCE/CLASS/*.jpg                         (the builder assigns splits)"""

ABOUT = f"""\
Any folder of images with one sub-folder per class.

{TREE}

State the order of the classes, least disease first. It is never inferred from the alphabet: `DR` sorts before `No_DR`,
and sensitivity would become specificity.
  --classes No_DR,DR --label any_dr
  --classes none,mild,moderate,severe,proliferative --label grade"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this layout."""
    parser.add_argument("--classes", help="class folders, least disease first, separated by commas", metavar="A,B,…")
    parser.add_argument(
        "--label", choices=CLASS_COUNTS, default="grade", help="the label that the classes are (default: grade)"
    )
    parser.add_argument("--name", default="folder", help="name of the record set (default: folder)")


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the images of all class folders."""
    folders, rejections = _class_folders(require_path(source, "folder", TREE))
    classes = _classes(flags, sorted({folder.name for _, folder in folders}))
    samples = []
    for split, folder in folders:
        paths, skipped = find_images(folder, source)
        rejections += skipped
        if not paths and not skipped:
            rejections.append(Rejection(image_id_of(source, folder), str(folder), "the folder contains no images"))
        for path in paths:
            label = {flags.label: classes.index(folder.name)}
            image_id = image_id_of(source, path)
            samples.append(make_sample(image_id=image_id, path=path, split=split, source=flags.name, **label))
    return Listing(samples, rejections)


def _class_folders(source):
    """[(split, class folder)] and what lies beside them. Split folders and class folders must not be mixed."""
    children, rejections = _folders_in(source, source)
    splits = [p for p in children if p.name.lower() in SPLIT_NAMES]
    if not splits:
        return [("", p) for p in children], rejections
    others = [printable(p.name) for p in children if p not in splits]
    if others:
        raise UserError(f"{source} contains split folders and also {', '.join(others)}; move the others elsewhere")
    folders = []
    for split in splits:
        classes, beside = _folders_in(split, source)
        folders += [(SPLIT_NAMES[split.name.lower()], p) for p in classes]
        rejections += beside
    return folders, rejections


def _folders_in(parent, source):
    """The folders in `parent`, links to folders included, and a rejection for what is lost beside them."""
    folders, rejections = [], []
    for path in sorted(p for p in parent.iterdir() if not p.name.startswith(".")):
        if os.path.isdir(path):
            folders.append(path)
        elif reason := reason_to_skip(path) or (path.suffix.lower() in SUFFIXES and "the image is in no class folder"):
            rejections.append(Rejection(image_id_of(source, path), str(path), reason))
    return folders, rejections


def _classes(flags, folders):
    if not folders:
        raise UserError(f"no class folders were found\nexpected:\n{TREE}")
    if not flags.classes:
        raise UserError(
            f"found the classes {', '.join(map(printable, folders))}; state their order, least disease first, with --classes"
        )
    classes = parse_class_order(flags.classes, flags.label)
    if others := sorted(set(folders) - set(classes)):
        raise UserError(
            f"--classes names {', '.join(classes)}; the folder also contains {', '.join(map(printable, others))}"
        )
    return classes


LAYOUT = Layout("any folder with one sub-folder per class", ABOUT, read, add_flags, lambda flags: flags.name)
