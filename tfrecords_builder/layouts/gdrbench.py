"""GDRBench (Che et al., MICCAI 2023): read images/SOURCE/GRADE/ of eight data sets, and the lists in splits/*.txt.

Download: linked from GDRBench/README.md of https://github.com/chehx/DGDR. Licence: each of the eight keeps its own.
"""

import argparse
import functools
import pathlib
import re

from dr_tf.console import UserError
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import SPLIT_NAMES, collect_samples, find_images, image_id_of, require_path
from tfrecords_builder.samples import Listing, Rejection
from tfrecords_builder.tables import parse_whole_number, read_label_lines

TREE = """\
  SOURCE/
    images/
      APTOS/nodr/*.png …       (also DEEPDR, FGADR, IDRID, MESSIDOR, RLDR, DDR; any of them may be missing)
      APTOS/mild_npdr/, moderate_npdr/, severe_npdr/, pdr/
      EYEPACS/Images/*.jpeg    (or in grade folders; without them, the grades are read from splits/)
    splits/                    (may be missing)
      APTOS_train.txt          lines: APTOS/pdr/001639a390f0.png 4
      APTOS_crossval.txt"""

ABOUT = f"""\
GDRBench, the benchmark for domain generalization of chehx/DGDR (Che et al., MICCAI 2023): eight data sets, cropped to
512 pixels. You assemble them yourself.
Licence: each data set keeps its own licence. FGADR and Messidor-2 may not be redistributed, so you get them from their
publishers.
From: GitHub chehx/DGDR. Its GDRBench/README.md links the images, and explains how to process FGADR and Messidor-2:
  git clone --depth 1 https://github.com/chehx/DGDR
  cp -r DGDR/GDRBench/splits SOURCE

{TREE}

The source of a record is the name of its folder below images/ in small letters. --sources chooses among them.
SOURCE_train.txt is the train split and SOURCE_crossval.txt the validation split. There is no list of a test split, so
calibration and test are taken from train. Images that are in no list are divided within each source, balanced by grade.
The sources overlap: all 1593 images of RLDR are also in EYEPACS and in its lists, 640 of them with a different grade
(the authors advise removing them). Patients of these two sources are read from the file names (3166_right) and are the
same people, so a patient of both is in one split only. Where the lists put a patient into both splits, the images in
train are rejected. To train on RLDR, leave EYEPACS out: --sources aptos,rldr,…
File names of DEEPDR contain the patient too (1_l1). In the other sources patients are unknown.
Counts in the lists, train and crossval: APTOS 2921, 741; DEEPDR 1600, 400; FGADR 1454, 388; IDRID 413, 103; MESSIDOR
1384, 360; RLDR 1281, 312; DDR 8762, 3759; EYEPACS 35124, 53573."""

CLASSES = ("nodr", "mild_npdr", "moderate_npdr", "severe_npdr", "pdr")
_SPLITS = SPLIT_NAMES | {"crossval": "validation"}
# Sources whose file names contain the patient and the eye: the sources, the pattern, and a prefix of the patient_id.
# RLDR is a part of EyePACS, so their patients are the same people.
_PATIENT_PATTERNS = (
    (("eyepacs", "rldr"), r"(\d+)_(left|right)", "eyepacs"),
    (("deepdr", "deepdrid"), r"(\d+)_(l|r)\d+", "deepdr"),
)
_EYES = {"l": "left", "r": "right"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this layout."""
    parser.add_argument("--name", default="gdrbench", help="name of the record set (default: gdrbench)")
    parser.add_argument("--sources", metavar="A,B,…", help="the folders below images/ to read (default: all)")


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the images of the lists in splits/, and those in grade folders that are in no list."""
    images = require_path(source / "images", "folder", TREE)
    folders = _folders(images, flags.sources)
    lines = list(_lines(source / "splits", folders))
    in_lists = {path for path, *_ in lines}
    entries, rejections = [_entry(images, *line) for line in lines], []
    for name, folder in folders.items():
        paths, skipped = find_images(folder, images)
        rejections += skipped
        unlisted = [path for path in paths if path not in in_lists]
        graded = [path for path in unlisted if path.parent.name in CLASSES]
        entries += [_entry(images, path, name, "", str(CLASSES.index(path.parent.name))) for path in graded]
        for parent in sorted({path.parent for path in unlisted} - {path.parent for path in graded}):
            reason = f"not a grade folder ({', '.join(CLASSES)}), and its images are in no list of splits/"
            rejections.append(Rejection(parent.relative_to(images).as_posix(), str(parent), reason))
    listing = collect_samples(entries)
    return Listing(listing.samples, rejections + listing.rejections)


def _folders(images, chosen):
    """{source: folder} of the sources that --sources chooses."""
    folders = {p.name.lower(): p for p in sorted(images.iterdir()) if p.is_dir() and not p.name.startswith(".")}
    if not folders:
        raise UserError(f"{images} contains no source folder\nexpected:\n{TREE}")
    names = [name.strip().lower() for name in chosen.split(",")] if chosen else list(folders)
    if unknown := sorted(set(names) - set(folders)):
        raise UserError(f"--sources names {', '.join(unknown)}; {images} contains {', '.join(folders)}")
    return {name: folders[name] for name in names}


def _lines(splits, folders):
    """Yield (path, source, split, grade as text) of each line of the lists of these sources."""
    for text in sorted(splits.glob("*_*.txt")):
        source, _, split = text.stem.lower().rpartition("_")
        if source in folders and split in _SPLITS:
            for _, name, grade in read_label_lines(text):
                # The lists write the source in capitals. Its folder may be spelled as its publisher does.
                yield folders[source] / name.partition("/")[2], source, _SPLITS[split], grade


def _entry(images, path, source, split, grade):
    return image_id_of(images, path), path, functools.partial(_fields, path, source, split, grade)


def _fields(path, source, split, text):
    grade = parse_whole_number(text, "grade", absent=-1)
    folder = path.parent.name
    if folder in CLASSES and grade != CLASSES.index(folder):
        raise ValueError(f"in the folder {folder}, but listed with grade {text}")
    patient, eye = _patient_and_eye(source, path.stem)
    return {"grade": grade, "patient_id": patient, "eye": eye, "split": split, "source": source}


def _patient_and_eye(source, name):
    for sources, pattern, prefix in _PATIENT_PATTERNS:
        if source in sources and (parts := re.fullmatch(pattern, name)):
            return f"{prefix}/{parts[1]}", _EYES.get(parts[2], parts[2])
    return "", ""


LAYOUT = Layout("GDRBench: eight data sets for domain generalization", ABOUT, read, add_flags, lambda flags: flags.name)
