"""IDRiD, part A, segmentation (Porwal et al., 2018): read the images, and a folder of masks for each lesion type.

Download: IEEE DataPort, "Indian Diabetic Retinopathy Image Dataset (IDRiD)". Licence: CC BY 4.0.
"""

import argparse
import functools
import pathlib

from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect_samples, first_existing_folder, require_path
from tfrecords_builder.samples import Listing

TREE = """\
  SOURCE/
    A. Segmentation/                         (or SOURCE is this folder itself)
      1. Original Images/
        a. Training Set/IDRiD_01.jpg …       54 images
        b. Testing Set/IDRiD_55.jpg …        27 images
      2. All Segmentation Groundtruths/
        a. Training Set/                     b. Testing Set/ likewise
          1. Microaneurysms/IDRiD_01_MA.tif …
          2. Haemorrhages/IDRiD_01_HE.tif …
          3. Hard Exudates/IDRiD_01_EX.tif …
          4. Soft Exudates/IDRiD_03_SE.tif …
          5. Optic Disc/IDRiD_01_OD.tif …"""

ABOUT = f"""\
Indian Diabetic Retinopathy Image Dataset, part A (segmentation): 81 images of 4288 x 2848 pixels from one Kowa VX-10
alpha in Nanded, India. All show signs of diabetic retinopathy, so any_dr is 1. They have no grade, and patients are
unknown. Masks outline four lesion types and the optic disc. In the records they are named microaneurysms, haemorrhages,
hard_exudates, cotton_wool_spots (soft exudates) and optic_disc.
Licence: CC BY 4.0 (Porwal, Pachade, Kokare: Indian Diabetic Retinopathy Image Dataset, 2018).
From: IEEE DataPort, "Indian Diabetic Retinopathy Image Dataset (IDRiD)": download A. Segmentation.zip, then
  unzip "A. Segmentation.zip" -d SOURCE

{TREE}

The published training and testing splits are kept. Where the folder of a lesion type has no mask of an image, the
record has none either.
Counts of masks: microaneurysms 81, haemorrhages 80, hard exudates 81, soft exudates 40, optic disc 81."""

_PARTS = (("train", "a. Training Set"), ("test", "b. Testing Set"))
# Folder, suffix of its file names, and the name of the lesion in the records, as in dr_tf.fundus.synthesis.
LESIONS = (
    ("1. Microaneurysms", "MA", "microaneurysms"),
    ("2. Haemorrhages", "HE", "haemorrhages"),
    ("3. Hard Exudates", "EX", "hard_exudates"),
    ("4. Soft Exudates", "SE", "cotton_wool_spots"),
    ("5. Optic Disc", "OD", "optic_disc"),
)


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the images of both splits. A mask without an image is listed too, so that the missing image is reported."""
    root = first_existing_folder(source / "A. Segmentation", source)
    return collect_samples(entry for split, part in _PARTS for entry in _entries(root, split, part))


def _entries(root, split, part):
    images = require_path(root / "1. Original Images" / part, "folder", TREE)
    masks = _masks_by_image(require_path(root / "2. All Segmentation Groundtruths" / part, "folder", TREE))
    for name in sorted({path.stem for path in images.glob("IDRiD_*.jpg")} | set(masks)):
        fields = functools.partial(_fields, split, tuple(masks.get(name, ())))
        yield f"{split}/{name}", images / f"{name}.jpg", fields


def _masks_by_image(folder):
    """{image: [(lesion, path), …]}"""
    masks: dict[str, list] = {}
    for lesion_folder, suffix, lesion in LESIONS:
        for path in sorted(require_path(folder / lesion_folder, "folder", TREE).glob(f"IDRiD_*_{suffix}.tif")):
            masks.setdefault(path.stem.removesuffix(f"_{suffix}"), []).append((lesion, path))
    return masks


def _fields(split, masks):
    return {"any_dr": 1, "masks": masks, "split": split, "source": "idrid", "camera": "Kowa VX-10 alpha"}


LAYOUT = Layout("IDRiD lesion segmentation, as published", ABOUT, read)
