"""Small copies of published data sets: the published names, columns and oddities, with drawn images."""

import pathlib
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import openpyxl
from PIL import Image

from tests.tfrecords_builder import trees

SIDE = (trees.HEIGHT, trees.WIDTH)


class Painter:
    """Write an image for each name, each from its own seed; or an empty file, for tests that read names only."""

    def __init__(self, source: pathlib.Path, draw: bool, first_seed: int = 101) -> None:
        self.source, self.draw, self.seed = source, draw, first_seed - 1

    def __call__(self, *names: str) -> None:
        for name in names:
            self.seed += 1
            kind = {"png": "png", "tif": "tiff"}.get(name.rpartition(".")[2].lower(), "jpeg")
            data = trees.encoded(trees.photograph(self.seed), kind) if self.draw else b""
            trees.write(self.source / name, data)


def write_excel(path: pathlib.Path, rows: Iterable[Sequence[object]]) -> None:
    """Write an Excel file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("notes").append(["not a label"])
    book.save(path)


def write_aptos(source: pathlib.Path, *, draw: bool = True, each: int = 1) -> None:
    """Write APTOS 2019 as published, with `each` images of a grade. The image of the last row is absent."""
    paint = Painter(source, draw)
    names = [f"0024cdab0c{16 + i:x}" for i in range(5 * each + 1)]
    paint(*(f"train_images/{name}.png" for name in names[:-1]), "test_images/0005cfc8afb6.png")
    grades = [*range(5)] * each + [2]
    trees.write_table(source / "train.csv", ("id_code", "diagnosis"), zip(names, grades, strict=True))
    trees.write_table(source / "test.csv", ("id_code",), [("0005cfc8afb6",)])


def write_eyepacs(source: pathlib.Path, *, draw: bool = True) -> None:
    """Write EyePACS as published."""
    paint = Painter(source, draw)
    train = [("10_left", 0), ("10_right", 0), ("13_left", 2), ("13_right", 3), ("17_left", 4), ("17_right", 1)]
    paint(*(f"train/{name}.jpeg" for name, _ in train[:5]))
    trees.write_table(source / "trainLabels.csv", ("image", "level"), train)
    test = [("1_left", 0, "Private"), ("1_right", 1, "Public")]
    paint(*(f"test/{name}.jpeg" for name, *_ in test))
    trees.write_table(source / "retinopathy_solution.csv", ("image", "level", "Usage"), test)


MESSIDOR2 = (  # as the table names it, as the file is named, grade, referable edema, gradable
    ("20051020_43808_0100_PP.png", "20051020_43808_0100_PP.png", 0, 0, 1),
    ("20051020_43832_0100_PP.png", "20051020_43832_0100_PP.tif", 1, 0, 1),
    ("IM000013.jpg", "IM000013.JPG", 3, 1, 1),
    ("IM000014.JPG", "IM000014.JPG", 4, 1, 1),
    ("IM000020.jpg", "IM000020.JPG", "", "", 0),
    ("IM000021.jpg", "IM000021.JPG", 2, 0, 1),
    ("IM000030.jpg", "", 2, 0, 1),
)


def write_messidor2(source: pathlib.Path, *, draw: bool = True, pairs: bool = True, first_seed: int = 101) -> None:
    """Write Messidor-2 as published, with or without the table of pairs."""
    Painter(source, draw, first_seed)(*(f"IMAGES/{name}" for _, name, *_ in MESSIDOR2 if name))
    header = ("image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable")
    trees.write_table(source / "messidor_data.csv", header, [(name, *labels) for name, _, *labels in MESSIDOR2])
    if pairs:
        names = [name for _, name, *_ in MESSIDOR2 if name]
        trees.write_table(
            source / "messidor-2.csv", ("left", "right"), zip(names[::2], names[1::2], strict=True), separator=";"
        )


def write_ddr(source: pathlib.Path, *, draw: bool = True) -> None:
    """Write DDR as published."""
    paint, root = Painter(source, draw), "DDR-dataset/DR_grading"
    for part, lines in {
        "train": ("007-0004-000.jpg 0", "007-1774-100.jpg 1", "007-0025-000.jpg 5", "20170413102628830.jpg 2"),
        "valid": ("007-5573-300.jpg 3", "007-0004-000.jpg 0"),
        "test": ("007-2551-100.jpg 4", "007-9999-000.jpg 1"),
    }.items():
        trees.write(source / root / f"{part}.txt", ("\n".join(lines) + "\n").encode())
        paint(*(f"{root}/{part}/{line.split()[0]}" for line in lines if "9999" not in line))


DEEPDRID_HEADER = (
    "patient_id", "image_id", "image_path", "Overall quality", "left_eye_DR_Level", "right_eye_DR_Level",
    "patient_DR_Level", "Clarity", "Field definition", "Artifact",
)  # fmt: skip


def write_deepdrid(source: pathlib.Path, *, draw: bool = True, labels: str = "xlsx") -> None:
    """Write DeepDRiD as published, with its test labels as csv, as xlsx, or without them."""
    paint, root = Painter(source, draw), "regular_fundus_images"
    for part, eyes in {
        "regular-fundus-training": (("1_l1", 0, ""), ("1_l2", 0, ""), ("1_r1", "", 1), ("56_r3", 1, ""), ("56_l3", "", 0)),
        "regular-fundus-validation": (("265_l1", 3, ""), ("265_r1", "", 4)),
    }.items():  # fmt: skip
        rows = []
        for name, left, right in eyes:
            patient = name.partition("_")[0]
            rows.append(
                (patient, name, rf"\{part}\{patient}\{name}.jpg", 1, left, right, max(left or 0, right or 0), 8, 8, 0)
            )
            paint(f"{root}/{part}/Images/{patient}/{name}.jpg")
        trees.write_table(source / root / part / f"{part}.csv", DEEPDRID_HEADER, rows)
    test = source / root / "Online-Challenge1&2-Evaluation"
    paint(*(f"{root}/{test.name}/Images/347/347_{eye}1.jpg" for eye in "lr"))
    trees.write_table(test / "Challenge1_upload.csv", ("image_id", "DR_Level"), [("347_l1", ""), ("347_r1", "")])
    header, test_rows = ("image_id", "DR_Levels"), [("347_l1", 2), ("347_r1", 0), ("348_l1", 0)]
    if labels == "xlsx":
        write_excel(test / "Challenge1_labels.xlsx", [header, *test_rows])
    elif labels == "csv":
        trees.write_table(test / "Challenge1_labels.csv", header, test_rows)


def lesion(left: int, top: int, right: int, bottom: int) -> bytes:
    """A mask in the format of IDRiD: a TIFF with a palette, whose second colour is red."""
    mask = np.zeros(SIDE, np.uint8)
    cv2.rectangle(mask, (left, top), (right, bottom), 1, -1)
    picture = Image.fromarray(mask, "P")
    picture.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    return trees.encoded(picture, "tiff", compression="tiff_lzw")


def write_idrid_lesions(source: pathlib.Path, *, draw: bool = True) -> None:
    """Write IDRiD segmentation as published."""
    root = "A. Segmentation"
    photographs, masks = f"{root}/1. Original Images", source / root / "2. All Segmentation Groundtruths"
    folders = ("1. Microaneurysms", "2. Haemorrhages", "3. Hard Exudates", "4. Soft Exudates", "5. Optic Disc")
    paint = Painter(source, draw)
    for part, numbers in (("a. Training Set", (1, 2)), ("b. Testing Set", (55,))):
        paint(*(f"{photographs}/{part}/IDRiD_{number:02d}.jpg" for number in numbers))
        for folder, ending in zip(folders, ("MA", "HE", "EX", "SE", "OD"), strict=True):
            (masks / part / folder).mkdir(parents=True)
            for number in numbers if ending != "SE" else numbers[:1]:
                box = (150, 120, 190, 160) if ending == "OD" else (200, 140, 215, 155)
                trees.write(masks / part / folder / f"IDRiD_{number:02d}_{ending}.tif", lesion(*box))
    trees.write(masks / "b. Testing Set" / "1. Microaneurysms" / "IDRiD_99_MA.tif", lesion(150, 120, 190, 160))


def write_gdrbench(source: pathlib.Path, *, draw: bool = True, splits: bool = True) -> None:
    """Write GDRBench as published, with or without the lists in splits/."""
    paint = Painter(source, draw)
    lines = {
        "APTOS_train": ("APTOS/pdr/001639a390f0.png 4", "APTOS/nodr/000c1434d8d7.png 0"),
        "APTOS_crossval": ("APTOS/mild_npdr/0024cdab0c1e.png 1",),
        "DEEPDR_train": ("DEEPDR/nodr/1_l1.jpg 0", "DEEPDR/severe_npdr/1_r1.jpg 3"),
        "DEEPDR_crossval": ("DEEPDR/mild_npdr/347_l1.jpg 1",),
        "RLDR_train": ("RLDR/moderate_npdr/3166_right.jpg 2", "RLDR/mild_npdr/29730_right.jpg 1"),
        "EYEPACS_train": ("EYEPACS/Images/10_left.jpeg 0", "EYEPACS/Images/10_right.jpeg 0"),
        "EYEPACS_crossval": ("EYEPACS/Images/3166_left.jpeg 1", "EYEPACS/Images/3166_right.jpeg 3"),
        "FGADR_train": ("FGADR/pdr/0003_3.png 4",),
    }
    for name, texts in lines.items():
        if splits:
            trees.write(source / "splits" / f"{name}.txt", ("\n".join(texts) + "\n").encode())
        if not name.startswith("FGADR"):
            paint(*(f"images/{line.rpartition(' ')[0].replace('DEEPDR', 'DeepDR')}" for line in texts))
    paint("images/APTOS/severe_npdr/unlisted.png")
    trees.write(source / "masks" / "APTOS" / "pdr" / "001639a390f0.png", b"")


ODIR_HEADER = (
    "ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords",
    "Right-Diagnostic Keywords", *"NDGCAHMO",
)  # fmt: skip
ODIR = (  # patient, age, sex, keywords of left and right, labels
    (0, 69, "Female", "cataract", "normal fundus", "00010000"),
    (5, 57, "Female", "moderate non proliferative retinopathy", "mild nonproliferative retinopathy", "01000000"),
    (30, 60, "Male", "laser spot，severe nonproliferative retinopathy", "diabetic retinopathy", "01000001"),
    (64, 61, "Male", "hypertensive retinopathy,suspected diabetic retinopathy", "low image quality", "01000100"),
    (91, 62, "Female", "normal fundus", "severe proliferative diabetic retinopathy", "01000000"),
    (1706, 58, "Male", "anterior segment image", "normal fundus", "10000000"),
)


def odir_rows() -> list[tuple]:
    """The rows of data.xlsx."""
    return [
        (number, age, sex, f"{number}_left.jpg", f"{number}_right.jpg", left, right, *map(int, labels))
        for number, age, sex, left, right, labels in ODIR
    ]


def write_odir(source: pathlib.Path, *, draw: bool = True) -> None:
    """Write the copy on Kaggle: one row per eye. 5_right has no file, and 91_left has neither row nor file."""
    rows = []
    for eye in ("right", "left"):
        for row in odir_rows():
            name = f"{row[0]}_{eye}.jpg"
            filepath = f"../input/ocular-disease-recognition-odir5k/ODIR-5K/Training Images/{name}"
            rows.append((*row, filepath, "['N']", "[1, 0, 0, 0, 0, 0, 0, 0]", name))
    rows = [row for row in rows if row[-1] != "91_left.jpg"]
    trees.write_table(source / "full_df.csv", (*ODIR_HEADER, "filepath", "labels", "target", "filename"), rows)
    Painter(source, draw)(*(f"preprocessed_images/{row[-1]}" for row in rows if row[-1] != "5_right.jpg"))


def write_odir_original(source: pathlib.Path, *, draw: bool = True) -> None:
    """Write the originals of ODIR-5K: data.xlsx with one row per patient."""
    write_excel(source / "data.xlsx", [ODIR_HEADER, *odir_rows()])
    Painter(source, draw)(*(f"Training Images/{row[i]}" for row in odir_rows() for i in (3, 4)))
