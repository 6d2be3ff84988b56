"""docs/bad_input.md states what each command does with each kind of bad input. This test tries them and makes the page.

After a change of behaviour, write the page anew:

    DR_TF_WRITE_PAGE=1 python -m pytest -m "slow or not slow" tests/robustness/bad_input_test.py
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import unittest
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import pytest

import evaluate
import train
from dr_tf.cli import explain, predict
from dr_tf.safe_names import from_csv_cell, unescape
from tests import commands, tiny
from tests.explain.runs import write_run
from tests.fundus import dicom_files
from tests.tfrecords_builder import bad_input_test as files
from tests.tfrecords_builder import trees

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "bad_input.md"
WRITE = "DR_TF_WRITE_PAGE"  # environment variable
CLASSES = "none,mild,moderate,severe,proliferative"
SIZE = 64
INTRODUCTION = """\
# Bad input

This page is made by a test (`tests/robustness/bad_input_test.py`), which tries each row with each command. `…` stands for a
path. An exit status is given where the input stops the command. Everywhere else the command goes on with the rest; its exit
status is then 1 if a photograph has to be retaken or cannot be read. `dr_tf records` ran with `--audit off` here: otherwise it
also rejects copies of an image.
"""

# Kind of file -> (name, bytes).
IMAGES: dict[str, tuple[str, bytes]] = {
    "JPEG cut in half": ("cut.jpg", files.half(files.JPEG)),
    "JPEG without its last 20 bytes": ("end.jpg", files.JPEG[:-20]),
    "JPEG with damaged bytes": ("damaged.jpg", files.BAD["damaged.jpg"][0]),
    "PNG cut in half": ("cut.png", files.half(files.PNG)),
    "PNG with damaged bytes": ("damaged.png", files.BAD["damaged.png"][0]),
    "TIFF cut in half": ("cut.tif", files.BAD["truncated.tif"][0]),
    "TIFF with a damaged strip": ("damaged.tif", files.BAD["flipped.tif"][0]),
    "BMP cut in half": ("cut.bmp", files.BAD["truncated.bmp"][0]),
    "empty file": ("empty.jpg", b""),
    "text named .jpg": ("text.jpg", b"a photograph was to be here\n"),
    "GIF named .jpg": ("gif.jpg", files.BAD["gif.jpg"][0]),
    "PNG named .jpg": ("really_png.jpg", files.PNG),
    "header that states 3,600 megapixels": ("giga.png", files.png_that_claims(60000, 60000)),
    "decompression bomb": ("bomb.png", files.BAD["bomb.png"][0]),
    "1 x 1 pixel": ("one.png", files.BAD["one pixel.png"][0]),
    "8 x 8 pixels": ("icon.png", files.BAD["icon.png"][0]),
    "all black": ("black.jpg", files.BAD["all black.jpg"][0]),
    "all white": ("white.jpg", files.BAD["all white.jpg"][0]),
    "noise": ("noise.jpg", files.BAD["noise.jpg"][0]),
    "landscape": ("landscape.jpg", files.BAD["landscape.jpg"][0]),
    "page of text": ("page.png", files.BAD["text page.png"][0]),
    "greyscale": ("grey.jpg", files.BAD["grey.jpg"][0]),
    "red-free (the green channel as RGB)": ("red_free.jpg", trees.jpeg(np.dstack([files.GOOD[..., 1]] * 3))),
    "floating-point TIFF": ("float.tif", files.BAD["float.tif"][0]),
    "16-bit PNG": ("sixteen.png", files.ACCEPTED["16 bit.png"]),
    "12 bits in a 16-bit PNG": ("twelve.png", files.ACCEPTED["12 bit in 16.png"]),
    "CMYK JPEG": ("cmyk.jpg", files.ACCEPTED["cmyk.jpg"]),
    "PNG with alpha": ("alpha.png", files.ACCEPTED["with alpha.png"]),
    "JPEG stored sideways, with an EXIF rotation": ("rotated.jpg", files.exif_rotated()),
    "bytes after the end of a JPEG": ("trailing.jpg", files.ACCEPTED["trailing bytes.jpg"]),
    "the same file twice": ("again.jpg", files.JPEG),
    "name with a line feed": ("a\nb.jpg", files.JPEG),
    "name that is not UTF-8": (os.fsdecode(b"\xff.jpg"), files.JPEG),
    "name of 255 bytes": ("x" * 251 + ".jpg", files.JPEG),
    "name that begins with =": ("=1+1.jpg", files.JPEG),
}
if dicom_files.HAS_PYDICOM:
    _OBJECT = dicom_files.jpeg(np.ascontiguousarray(files.GOOD))
    IMAGES |= {
        "DICOM file": ("photograph.dcm", _OBJECT),
        "DICOM file without a suffix": ("IM0001", dicom_files.jpeg(np.ascontiguousarray(trees.photograph(2)))),
        "DICOM file with burned-in text": ("burned.dcm", dicom_files.native(trees.photograph(3), BurnedInAnnotation="YES")),
        "DICOM file cut in half": ("cut.dcm", files.half(_OBJECT)),
        "DICOM file of grey pixels": (
            "grey.dcm", dicom_files.native(np.ascontiguousarray(files.GOOD[..., 1]), photometric="MONOCHROME2"),
        ),
        "DICOM file with 60,000 rows": ("rows.dcm", dicom_files.native(files.GOOD, Rows=60000)),
        "DICOM report": ("report.dcm", dicom_files.without_image("1.2.840.10008.5.1.4.1.1.88.34")),
        "text named .dcm": ("text.dcm", b"a photograph was to be here\n"),
    }  # fmt: skip
# Kind of entry of a folder -> (name, function that makes it).
ENTRIES: dict[str, tuple[str, Callable[[pathlib.Path], object]]] = {
    "folder that may not be read": ("secret", lambda path: trees.write(path / "eye.jpg", files.JPEG)),
    "empty folder": ("empty", lambda path: path.mkdir()),
    "link to a file that is gone": ("dead.jpg", lambda path: path.symlink_to("nowhere")),
    "link to itself": ("itself.jpg", lambda path: path.symlink_to(path)),
    "link to a folder above": ("round", lambda path: path.symlink_to(path.parent)),
    "file on a disk that fails": ("failing.jpg", lambda path: path.symlink_to("/proc/self/mem")),
    "link to an image": ("link.jpg", lambda path: path.symlink_to("again.jpg")),
    "pipe (FIFO)": ("pipe.jpg", os.mkfifo),
    "link to a device": ("zero.jpg", lambda path: path.symlink_to("/dev/zero")),
    "file of another kind": ("notes.txt", lambda path: path.write_text("notes")),
}
SILENT = "skipped without a word"
NOT_AN_IMAGE = ("empty folder", "file of another kind")  # the only entries that no command mentions


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Refuse the folder that may not be read. It is patched, because root may read every folder."""
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    with mock.patch("os.scandir", scandir):
        yield


class Folder:
    """A folder in which everything is tried."""

    def __init__(self, root: str):
        self.root = pathlib.Path(root)
        self.run_dir = self.root / "run"
        write_run(self.run_dir)

    def say(self, text: str) -> str:
        """Return a message without the paths of this folder."""
        text = re.sub(rf"{re.escape(str(self.root))}\S*(?=/)", "…", text)
        return re.sub(r"/tmp/[^\s:;,]*(?=/)", "…", text)

    def stopped(self, status: int, errors: str) -> str:
        """Return what a command said that was stopped, or that it was not."""
        assert "Traceback" not in errors, errors
        line = errors.strip().splitlines()[-1] if errors.strip() else ""
        return self.say(f"{line} (exit status {status})") if status == 2 else "goes on"


def image_rows(folder: Folder) -> Iterator[tuple[str, ...]]:
    """Yield (kind, records, predict, explain) of each kind of image and entry, all in one folder."""
    source = folder.root / "images"
    place = source / "mild"
    for name, data in IMAGES.values():
        trees.write(place / name, data)
    for name, make in ENTRIES.values():
        make(place / name)
    observed = [observe(folder, source) for observe in (_records, _predict, _explain)]
    for kind, (name, _) in (IMAGES | ENTRIES).items():
        yield kind, *(seen.get(name, SILENT) for seen in observed)


def _records(folder: Folder, source: pathlib.Path) -> dict[str, str]:
    flags = ("--source", source, "--records", folder.root / "images_records", "--image_size", SIZE, "--workers", 1)
    options = ("--classes", CLASSES, "--audit", "off", "--shares", "train=100", "--folds", 2)
    with refused():
        status, _, errors = trees.run_builder("folder", *flags, *options)
    assert status == 0, errors
    target = folder.root / "images_records" / "folder" / f"{SIZE}-plain-q95" / "1.0.0"
    rejected = {
        from_csv_cell(row["path"]).removeprefix("mild/"): f"rejected: {row['reason']}"
        for row in trees.read_csv(target / "rejected.csv")
    }
    kept = [from_csv_cell(row["image_id"]).removeprefix("mild/") for row in trees.read_csv(target / "folds.csv")]
    kept = [name.encode().replace(rb"\udcff", b"\xff").decode("utf-8", "surrogateescape") for name in kept]
    return dict.fromkeys(kept, "accepted") | rejected


def _skipped(errors: str) -> dict[str, str]:
    found = re.findall(r"^skipped: (.*?): (.*)$", errors, re.MULTILINE)
    return {os.path.basename(unescape(path)): f"skipped: {reason}" for path, reason in found}


def _predict(folder: Folder, source: pathlib.Path) -> dict[str, str]:
    with refused():
        status, told, errors = commands.run(
            predict.main, "--run_dir", folder.run_dir, "--format", "json", "--batch_size", 64, source
        )
    assert status == 1, errors
    decisions = map(json.loads, told.splitlines())
    return _skipped(errors) | {
        os.path.basename(unescape(one["case"])): _decision(one["action"], one["reason"]) for one in decisions
    }


def _decision(action: str, reason: str) -> str:
    return f"retake: {reason}" if action == "retake" else "decided"


def _explain(folder: Folder, source: pathlib.Path) -> dict[str, str]:
    output = folder.root / "maps"
    with refused():
        status, _, errors = commands.run(explain.main, "--run_dir", folder.run_dir, "--output", output, source)
    assert status == 1, errors
    cases = json.loads((output / "explanations.json").read_text(encoding="utf-8"))["cases"]
    return _skipped(errors) | {
        os.path.basename(unescape(one["case"])): one["undrawn"] or _decision(one["action"], one["reason"])
        for one in cases
    }


# Kind of table -> its text; {} is the name of the image.
TABLES = {
    "absent": None,
    "empty": "",
    "header without rows": "image,grade,patient,eye\n",
    "column missing": "file,grade\neye.jpg,1\n",
    "column named twice": "image,image,grade,patient,eye\neye.jpg,eye.jpg,1,p,left\n",
    "quote that is not closed": 'image,grade,patient,eye\n"eye.jpg,1,p,left\n',
    "unknown grade": "image,grade,patient,eye\neye.jpg,7,p,left\n",
    "grade in words": "image,grade,patient,eye\neye.jpg,severe,p,left\n",
    "unknown eye": "image,grade,patient,eye\neye.jpg,1,p,upper\n",
    "image that is absent": "image,grade,patient,eye\ngone.jpg,1,p,left\n",
    "row without image": "image,grade,patient,eye\n,1,p,left\n",
    "image listed twice, the same": "image,grade,patient,eye\neye.jpg,1,p,left\neye.jpg,1,p,left\n",
    "image listed twice, with two grades": "image,grade,patient,eye\neye.jpg,1,p,left\neye.jpg,2,p,left\n",
    "image listed twice, with two patients": "image,grade,patient,eye\neye.jpg,1,p,left\neye.jpg,1,q,left\n",
    "cell with a formula": "image,grade,patient,eye\neye.jpg,1,=1+1,left\n",
    "zero bytes": "\0" * 300,
}


def table_rows(folder: Folder) -> Iterator[tuple[str, ...]]:
    """Yield (kind, records, predict) of each kind of table. Beside its row, another row is good."""
    source = folder.root / "photographs"
    trees.write_photographs(source, ("eye.jpg", "other.jpg"))
    for number, (kind, text) in enumerate(TABLES.items()):
        path = folder.root / f"table_{number}.csv"
        if text is not None:
            has_rows = text.count("\n") > 1
            path.write_text(text + ("other.jpg,1,o,left\n" if has_rows else ""))
        yield kind, _records_of_table(folder, source, path), _predict_with_table(folder, source / "eye.jpg", path)


def _records_of_table(folder: Folder, source: pathlib.Path, table: pathlib.Path) -> str:
    records = folder.root / f"{table.stem}_records"
    columns = [flag for field in ("image", "grade", "patient", "eye") for flag in (f"--{field}_column", field)]
    flags = ("--source", source, "--records", records, "--image_size", SIZE, "--workers", 1, "--audit", "off")
    status, _, errors = trees.run_builder("csv", *flags, "--labels", table, "--name", "x", *columns)
    if status:
        return folder.stopped(status, errors.replace("\n  ", " "))
    rejected = trees.read_csv(records / "x" / f"{SIZE}-plain-q95" / "1.0.0" / "rejected.csv")
    return "; ".join(f"rejected: {row['reason']}" for row in rejected) or "accepted"


def _predict_with_table(folder: Folder, image: pathlib.Path, table: pathlib.Path) -> str:
    flags = ("--run_dir", folder.run_dir, "--patient_table", table)
    with mock.patch("dr_tf.cli.predict.load", side_effect=SystemExit(0)):  # the table was read, and has the image
        status, _, errors = commands.run(predict.main, *flags, image)
    return folder.stopped(status, errors).replace("goes on", "accepted")


def _remove(path: pathlib.Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _halve(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _renumber(path: pathlib.Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))


# Kind of fault -> (file of the run, what happens to it).
RUN_FAULTS: dict[str, tuple[str, Callable[[pathlib.Path], object]]] = {
    "no such run": ("", _remove),
    "run without model.keras": ("model.keras", _remove),
    "run whose model.keras is cut in half": ("model.keras", _halve),
    "run without decision.json": ("decision.json", _remove),
    "run whose decision.json is cut in half": ("decision.json", _halve),
    "run whose decision.json has another version": ("decision.json", _renumber),
    "run without config.gin": ("config.gin", _remove),
    "run whose calibration.npz is cut in half": ("calibration.npz", _halve),
}
SET = f"{tiny.DATASET}/1.0.0"
RECORD_FAULTS: dict[str, tuple[str, Callable[[pathlib.Path], object]]] = {
    "no such record set": (tiny.DATASET, _remove),
    "records whose first shard is cut in half": ("*-test.tfrecord*", _halve),
    "records without a shard": ("*-test.tfrecord*", _remove),
    "records without dataset_info.json": ("dataset_info.json", _remove),
    "records whose dataset_info.json is cut in half": ("dataset_info.json", _halve),
    "records whose folds.csv is cut in half": ("folds.csv", _halve),
}


def run_rows(folder: Folder) -> Iterator[tuple[str, ...]]:
    """Yield (kind, predict, explain, train, evaluate) of each fault of a run or of records."""
    for number, (kind, (name, break_it)) in enumerate(RUN_FAULTS.items()):
        run = pathlib.Path(shutil.copytree(tiny.run_dir(), folder.root / f"fault_{number}" / "run"))
        break_it(run / name)
        yield kind, *_commands_on(folder, run, tiny.records_root())
    for number, (kind, (name, break_it)) in enumerate(RECORD_FAULTS.items()):
        records = pathlib.Path(shutil.copytree(tiny.records_root(), folder.root / f"fault_set_{number}" / "records"))
        place = records / name if name == tiny.DATASET else sorted((records / SET).glob(name))[0]
        break_it(place)
        yield kind, "–", "–", *_commands_on(folder, tiny.run_dir(), records, of_records=True)


def _commands_on(folder: Folder, run: pathlib.Path, records: pathlib.Path, *, of_records: bool = False) -> list[str]:
    work = pathlib.Path(tempfile.mkdtemp(dir=folder.root))
    image = tiny.photographs()[0]
    config = tiny.records_root().parent / "config.gin"
    new = ("--gin_file", config, "--records", records, "--run_dir", work / "new")
    calls = (
        (predict.main, ("--run_dir", run, image)),
        (explain.main, ("--run_dir", run, "--output", work / "maps", image)),
        (train.main, (*new, "--init_from", run) if run != tiny.run_dir() else new),
        (evaluate.main, ("--run_dir", run, "--records", records, "--bootstrap_samples", 5)),
    )
    results = []
    for main, arguments in calls[2:] if of_records else calls:
        status, _, errors = commands.run(main, *arguments)
        results.append(folder.stopped(status, errors))
    return results


SECTIONS: dict[str, tuple[tuple[str, ...], Callable[[Folder], Iterator[tuple[str, ...]]]]] = {
    "Images in a folder": (("Input", "`records folder`", "`predict`", "`explain`"), image_rows),
    "Tables": (("Table", "`records csv`", "`predict --patient_table`"), table_rows),
    "Runs and records": (("Fault", "`predict`", "`explain`", "`train`", "`evaluate`"), run_rows),
}


def made_section(title: str) -> str:
    """Try everything in a section, and return its table."""
    header, rows = SECTIONS[title]
    with tempfile.TemporaryDirectory() as root:
        lines = [header, ("---",) * len(header), *rows(Folder(root))]
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")


def committed_sections() -> dict[str, str]:
    """Return {title: table} of the page; empty tables where there is none yet."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    parts = (part.partition("\n\n") for part in text.split("\n## ")[1:])
    tables = {title: table.strip() + "\n" for title, _, table in parts}
    return {title: tables.get(title, "") for title in SECTIONS}


def write(sections: dict[str, str]) -> None:
    """Write the page."""
    parts = (f"\n## {title}\n\n{table}" for title, table in sections.items())
    PAGE.write_text(INTRODUCTION + "".join(parts), encoding="utf-8")


class BadInputTest(unittest.TestCase):
    maxDiff = None

    def check(self, title):
        made, sections = made_section(title), committed_sections()
        if os.environ.get(WRITE):
            write(sections | {title: made})
        else:
            self.assertEqual(made, sections[title], f"to write the page anew, set {WRITE}=1")
        return made

    @dicom_files.needs_pydicom
    def test_images(self):
        unmentioned = [line for line in self.check("Images in a folder").splitlines() if SILENT in line]
        self.assertEqual(unmentioned, [f"| {kind} |" + 3 * f" {SILENT} |" for kind in NOT_AN_IMAGE])

    def test_introduction(self):
        if not os.environ.get(WRITE):
            self.assertTrue(PAGE.read_text(encoding="utf-8").startswith(INTRODUCTION))

    @pytest.mark.slow
    def test_tables(self):
        self.check("Tables")

    @pytest.mark.slow
    def test_runs_and_records(self):
        self.check("Runs and records")


if __name__ == "__main__":
    unittest.main()
