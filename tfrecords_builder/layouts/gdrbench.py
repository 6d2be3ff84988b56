"""GDRBench: eight published sets below one folder, one folder a source and below it one folder a grade."""

import functools
import re

from dr_tf.console import UserError
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import SPLIT_NAMES, collect, image_id, photographs_in, require
from tfrecords_builder.samples import Listing, Rejection
from tfrecords_builder.tables import labelled_lines, whole_number

TREE = """\
  SOURCE/
    images/
      APTOS/nodr/*.png …       (DEEPDR, FGADR, IDRID, MESSIDOR, RLDR, DDR likewise; any of them may be absent)
      APTOS/mild_npdr/, moderate_npdr/, severe_npdr/, pdr/
      EYEPACS/Images/*.jpeg    (or in folders of grades; without them the texts below tell the grades)
    splits/                    (may be absent)
      APTOS_train.txt          lines: APTOS/pdr/001639a390f0.png 4
      APTOS_crossval.txt"""

ABOUT = f"""\
GDRBench, the benchmark for domain generalization of chehx/DGDR (Che et al., MICCAI 2023): eight sets cropped to 512
pixels, which you put together. Each keeps its own licence; FGADR and Messidor-2 may not be redistributed, so you get
them from their publishers.
From: GitHub chehx/DGDR, whose GDRBench/README.md links the images and says how to process the two others:
  git clone --depth 1 https://github.com/chehx/DGDR
  cp -r DGDR/GDRBench/splits SOURCE

{TREE}

The record's source is the folder's name in small letters, which --sources chooses from. SOURCE_train.txt is train and
SOURCE_crossval.txt is validation; no text is of a test split, so calibration and test are dealt out of train.
Photographs of no text are split within each source, balanced by grade.
Sources overlap: all 1593 photographs of RLDR are in EYEPACS, 640 of them with another grade, and the texts of EYEPACS
list them, too (the authors say to take them out). Patients of the two, read from the names (3166_right), are one
here, so none is in two splits: where the texts put one into two, the photograph in train is rejected. To train on
RLDR, leave EYEPACS out: --sources aptos,rldr,…
DEEPDR names patients, too (1_l1); the other sources name none.
Counts in the texts, train and crossval: APTOS 2921, 741; DEEPDR 1600, 400; FGADR 1454, 388; IDRID 413, 103; MESSIDOR
1384, 360; RLDR 1281, 312; DDR 8762, 3759; EYEPACS 35124, 53573."""

CLASSES = ("nodr", "mild_npdr", "moderate_npdr", "severe_npdr", "pdr")
_SPLITS = SPLIT_NAMES | {"crossval": "validation"}
# RLDR is of EyePACS: its patients are the same people.
_PEOPLE = (
    (("eyepacs", "rldr"), r"(\d+)_(left|right)", "eyepacs"),
    (("deepdr", "deepdrid"), r"(\d+)_(l|r)\d+", "deepdr"),
)
_EYES = {"l": "left", "r": "right"}


def add_flags(parser):
    parser.add_argument("--name", default="gdrbench", help="name of the record set (default: gdrbench)")
    parser.add_argument("--sources", metavar="A,B,…", help="only these folders of images (default: all)")


def read(source, flags):
    images = require(source / "images", "folder", TREE)
    folders = _folders(images, flags.sources)
    lines = list(_lines(source / "splits", folders))
    listed = {path for path, *_ in lines}
    entries, rejections = [_entry(images, *line) for line in lines], []
    for name, folder in folders.items():
        unlisted = [path for path in photographs_in(folder) if path not in listed]
        graded = [path for path in unlisted if path.parent.name in CLASSES]
        entries += [_entry(images, path, name, "", str(CLASSES.index(path.parent.name))) for path in graded]
        for parent in sorted({path.parent for path in unlisted} - {path.parent for path in graded}):
            reason = f"no folder of a grade ({', '.join(CLASSES)}), and no text of splits/ lists its photographs"
            rejections.append(Rejection(parent.relative_to(images).as_posix(), str(parent), reason))
    listing = collect(entries)
    return Listing(listing.samples, rejections + listing.rejections)


def _folders(images, chosen):
    folders = {p.name.lower(): p for p in sorted(images.iterdir()) if p.is_dir() and not p.name.startswith(".")}
    if not folders:
        raise UserError(f"{images} holds no folder of a source\nexpected:\n{TREE}")
    wanted = [name.strip().lower() for name in chosen.split(",")] if chosen else list(folders)
    if unknown := sorted(set(wanted) - set(folders)):
        raise UserError(f"--sources names {', '.join(unknown)}; {images} holds {', '.join(folders)}")
    return {name: folders[name] for name in wanted}


def _lines(splits, folders):
    """(path, source, split, grade as written) of each line of the texts whose source is wanted."""
    for text in sorted(splits.glob("*_*.txt")):
        source, _, split = text.stem.lower().rpartition("_")
        if source in folders and split in _SPLITS:
            for _, name, grade in labelled_lines(text):
                # The texts write the source in capitals, its folder may be written as its publisher does.
                yield folders[source] / name.partition("/")[2], source, _SPLITS[split], grade


def _entry(images, path, source, split, grade):
    return image_id(images, path), path, functools.partial(_fields, path, source, split, grade)


def _fields(path, source, split, text):
    grade = whole_number(text, "grade", absent=-1)
    folder = path.parent.name
    if folder in CLASSES and grade != CLASSES.index(folder):
        raise ValueError(f"it lies in {folder}, but its line says grade {text}")
    patient, eye = _person(source, path.stem)
    return {"grade": grade, "patient_id": patient, "eye": eye, "split": split, "source": source}


def _person(source, name):
    for sources, pattern, prefix in _PEOPLE:
        if source in sources and (parts := re.fullmatch(pattern, name)):
            return f"{prefix}/{parts[1]}", _EYES.get(parts[2], parts[2])
    return "", ""


LAYOUT = Layout("GDRBench: eight sets for domain generalization", ABOUT, read, add_flags, lambda flags: flags.name)
