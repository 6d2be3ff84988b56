"""IDRiD, segmentation: photographs and, for each lesion type, a folder of masks; there is no table."""

import functools

from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect, first_folder, require

TREE = """\
  SOURCE/
    A. Segmentation/                         (or SOURCE is this folder itself)
      1. Original Images/
        a. Training Set/IDRiD_01.jpg …       54 photographs
        b. Testing Set/IDRiD_55.jpg …        27 photographs
      2. All Segmentation Groundtruths/
        a. Training Set/                     b. Testing Set/ likewise
          1. Microaneurysms/IDRiD_01_MA.tif …
          2. Haemorrhages/IDRiD_01_HE.tif …
          3. Hard Exudates/IDRiD_01_EX.tif …
          4. Soft Exudates/IDRiD_03_SE.tif …
          5. Optic Disc/IDRiD_01_OD.tif …"""

ABOUT = f"""\
Indian Diabetic Retinopathy Image Dataset, part A (segmentation): 81 photographs of 4288 x 2848 pixels with signs of
diabetic retinopathy from one Kowa VX-10 alpha in Nanded, India, with the outlines of four lesion types and the optic
disc. They have no grade (any_dr is 1), and patients are not named. The records' masks are microaneurysms,
haemorrhages, hard_exudates, cotton_wool_spots (soft exudates) and optic_disc.
Licence: CC BY 4.0 (Porwal, Pachade, Kokare: Indian Diabetic Retinopathy Image Dataset, 2018).
From: IEEE DataPort, "Indian Diabetic Retinopathy Image Dataset (IDRiD)": download A. Segmentation.zip, then
  unzip "A. Segmentation.zip" -d SOURCE

{TREE}

A photograph in whose folder of a lesion type no mask lies has no such mask in its record.
Counts of masks: microaneurysms 81, haemorrhages 80, hard exudates 81, soft exudates 40, optic disc 81."""

_PARTS = (("train", "a. Training Set"), ("test", "b. Testing Set"))
# Folder, ending of the names in it, and the lesion's name in the records, as in dr_tf.fundus.synthesis.
LESIONS = (
    ("1. Microaneurysms", "MA", "microaneurysms"),
    ("2. Haemorrhages", "HE", "haemorrhages"),
    ("3. Hard Exudates", "EX", "hard_exudates"),
    ("4. Soft Exudates", "SE", "cotton_wool_spots"),
    ("5. Optic Disc", "OD", "optic_disc"),
)


def read(source, flags):
    root = first_folder(source / "A. Segmentation", source)
    return collect(entry for split, part in _PARTS for entry in _entries(root, split, part))


def _entries(root, split, part):
    photographs = require(root / "1. Original Images" / part, "folder", TREE)
    masks = require(root / "2. All Segmentation Groundtruths" / part, "folder", TREE)
    found = _masks(masks)
    for name in sorted({path.stem for path in photographs.glob("IDRiD_*.jpg")} | set(found)):
        fields = functools.partial(_fields, split, tuple(found.get(name, ())))
        yield f"{split}/{name}", photographs / f"{name}.jpg", fields


def _masks(folder):
    """{photograph: [(lesion, path), …]}"""
    found = {}
    for lesion_folder, ending, lesion in LESIONS:
        for path in sorted(require(folder / lesion_folder, "folder", TREE).glob(f"IDRiD_*_{ending}.tif")):
            found.setdefault(path.stem.removesuffix(f"_{ending}"), []).append((lesion, path))
    return found


def _fields(split, masks):
    return {"any_dr": 1, "masks": masks, "split": split, "source": "idrid", "camera": "Kowa VX-10 alpha"}


LAYOUT = Layout("IDRiD lesion segmentation, as published", ABOUT, read)
