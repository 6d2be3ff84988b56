"""Damaged files of every kind, given to what reads them: each is read, or refused in one line, soon and with little memory.

Hypothesis damages valid files and, if one is not survived, shows the smallest such file. The everyday suite tries a few of
each kind, always the same ones; `pytest -m slow` tries 20,000 others each time.
"""

import contextlib
import io
import json
import pathlib
import resource
import shutil
import signal
import unittest
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dr_tf.console import UserError
from dr_tf.data.records import open_folder
from dr_tf.evaluation.predictions_csv import read_predictions, write_predictions
from dr_tf.explain.colour_scale import read_scale
from dr_tf.inference.export_file import read_export
from dr_tf.inference.nearest_neighbours import build_neighbours, load_neighbours
from dr_tf.inference.network import load_network
from dr_tf.inference.patients import read_patient_table
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.prepare_images import prepare_image
from dr_tf.inference.ready import READY
from dr_tf.inference.rule_file import read_rule
from dr_tf.inference.run import load_run, read_calibration
from dr_tf.models.checkpoint_files import read_checkpoint
from dr_tf.models.heads import HEADS
from tests import tiny
from tests.evaluation.synthetic_predictions import make_graded
from tests.explain.runs import write_run
from tests.fundus import dicom_files
from tests.robustness.damage import damaged_archive, damaged_bytes, damaged_json, damaged_text
from tests.tfrecords_builder import bad_input_test as images
from tfrecords_builder.tables import read_numbered_rows

SECONDS = 10
MEGABYTES = 200  # of growth: allocators keep some memory, and decoders more
EVERYDAY, NIGHTLY = 4, 20_000  # cases of each kind, and of all kinds
TABLE = 'image,patient,eye,grade,age,sex\na.jpg,1,left,0,61,f\nb.jpg,1,right,2,61,f\n"c, d.jpg",2,OS,4,,\n'


class Damaged(bytes):
    """A damaged file, of which Hypothesis shows the size only."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes"


class Target:
    """A kind of file.

    Attributes:
        path: where the damaged files are written, in a folder of their own.
        damaged: the damaged files.
        read: reads one.
    """

    def __init__(self, path: pathlib.Path, damaged: st.SearchStrategy[bytes], read: Callable[[pathlib.Path], object]):
        self.path, self.damaged, self.read = path, damaged, read

    def try_one(self, data: bytes) -> None:
        """Read a damaged file. Raise whatever is neither an answer nor a refusal in one line."""
        self.path.write_bytes(data)
        before = sorted(self.path.parent.rglob("*"))
        printed = io.StringIO()
        with at_most(SECONDS), contextlib.redirect_stdout(printed):
            try:
                self.read(self.path)
            except UserError as error:
                assert len(str(error).splitlines()) == 1, repr(str(error))
        assert not printed.getvalue(), printed.getvalue()
        assert sorted(self.path.parent.rglob("*")) == before, "it left a file"


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise an AssertionError in what takes longer."""

    def stop(*_):
        raise AssertionError(f"it takes more than {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def resident_megabytes() -> float:
    """Memory of this process and of its workers."""
    children = " ".join(path.read_text() for path in pathlib.Path("/proc/self").glob("task/*/children")).split()
    pages = [int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1]) for process in ("self", *children)]
    return sum(pages) * resource.getpagesize() / 1e6


def new_folder(name: str) -> pathlib.Path:
    return tiny.temporary_folder() / name


def in_copy(folder: pathlib.Path, name: str) -> pathlib.Path:
    """A file in a fresh copy of a folder."""
    return shutil.copytree(folder, new_folder(folder.name)) / name


def json_in(folder: pathlib.Path, name: str, read: Callable[[pathlib.Path], object]) -> Target:
    path = in_copy(folder, name)
    return Target(path, damaged_json(json.loads(path.read_bytes())), read)


def archive_in(folder: pathlib.Path, name: str, read: Callable[[pathlib.Path], object]) -> Target:
    path = in_copy(folder, name)
    return Target(path, damaged_archive(path.read_bytes()), read)


def prepare(path: pathlib.Path) -> None:
    prepared = prepare_image(Preparation.from_records_name("any/64-plain-q95", 64), path.read_bytes())
    assert prepared.pixels is not None or len(prepared.info.reason.splitlines()) == 1, prepared.info


def run_network(path: pathlib.Path) -> None:
    network = load_network(path.parent)
    network(np.zeros((1, network.image_size, network.image_size, 3), np.uint8))


def measure_distance(path: pathlib.Path) -> None:
    distribution = load_run(path.parent).feature_distribution
    if distribution:
        distribution.distance(np.zeros((1, distribution.width), np.float32))


def photographs() -> Target:
    return Target(new_folder("eye"), damaged_bytes([images.JPEG, images.PNG, *images.ACCEPTED.values()]), prepare)


def dicom() -> Target:
    pixels = np.ascontiguousarray(images.GOOD)
    makers = dicom_files.native, dicom_files.jpeg, dicom_files.rle, dicom_files.jpeg_2000
    return Target(new_folder("eye.dcm"), damaged_bytes([make(pixels) for make in makers]), prepare)


def label_table() -> Target:
    damaged = damaged_text([TABLE, TABLE.replace(",", ";")])
    return Target(new_folder("a.csv"), damaged, lambda path: read_numbered_rows(path, required=("image", "grade")))


def patient_table() -> Target:
    return Target(new_folder("a.csv"), damaged_text([TABLE]), read_patient_table)


def predictions() -> Target:
    path = new_folder("predictions.csv")
    write_predictions(path, make_graded(8))
    return Target(path, damaged_text([path.read_text()]), read_predictions)


def neighbours() -> Target:
    folder, rng = tiny.temporary_folder(), np.random.default_rng(0)
    build_neighbours(rng.normal(size=(30, 4)).astype(np.float32), rng.integers(3, size=30), 3).save(folder / "n.npz")
    return archive_in(folder, "n.npz", load_neighbours)


def weights() -> Target:
    header = json.dumps({"a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}}).encode()
    return Target(
        new_folder("w"), damaged_bytes([len(header).to_bytes(8, "little") + header + bytes(48)]), read_checkpoint
    )


def keras_model() -> Target:
    run = new_folder("run")
    write_run(run)
    return archive_in(run, "model.keras", run_network)


def onnx_model() -> Target:
    path = in_copy(READY / "onnx", "model.onnx")
    return Target(path, damaged_bytes([path.read_bytes()]), run_network)


def records() -> Target:
    folder = tiny.records_root() / f"{tiny.DATASET}/1.0.0"
    copy = shutil.copytree(folder, new_folder("records") / tiny.DATASET / "1.0.0")
    path = copy / "dataset_info.json"
    return Target(path, damaged_json(json.loads(path.read_bytes())), lambda path: open_folder(path.parent))


KINDS: dict[str, tuple[Callable[[], Target], float]] = {  # the share is that of the nightly cases
    "photographs": (photographs, 0.3),
    "DICOM files": (dicom, 0.1),
    "label tables": (label_table, 0.14),
    "patient tables": (patient_table, 0.05),
    "predictions": (predictions, 0.05),
    "decision.json": (lambda: json_in(READY, "decision.json", lambda path: read_rule(path, HEADS)), 0.1),
    "export.json": (lambda: json_in(READY / "onnx", "export.json", lambda path: read_export(path.parent)), 0.05),
    "map_scale.json": (lambda: json_in(READY, "map_scale.json", lambda path: read_scale(path.parent)), 0.05),
    "gate.npz": (lambda: archive_in(READY, "gate.npz", measure_distance), 0.02),
    "calibration.npz": (lambda: archive_in(READY, "calibration.npz", lambda path: read_calibration(path.parent)), 0.03),
    "neighbours.npz": (neighbours, 0.03),
    "published weights": (weights, 0.03),
    "model.keras": (keras_model, 0.02),
    "model.onnx": (onnx_model, 0.02),
    "dataset_info.json": (records, 0.01),
}


class FuzzTest(unittest.TestCase):
    def check(self, kind: str, cases: int, *, same: bool) -> None:
        """Try damaged files of a kind: the same ones each time, or others."""
        if kind == "DICOM files" and not dicom_files.HAS_PYDICOM:
            self.skipTest("pydicom is not installed: pip install 'dr_tf[dicom]'")
        target = KINDS[kind][0]()
        memory: list[float] = []  # without the files, which Hypothesis keeps
        kept = 0.0

        phases = [phase for phase in Phase if not (same and phase is Phase.shrink)]  # which takes minutes

        @settings(
            max_examples=cases, deadline=None, derandomize=same, phases=phases, suppress_health_check=list(HealthCheck)
        )
        @given(target.damaged.map(Damaged))
        def try_one(data):
            nonlocal kept
            target.try_one(data)
            kept += len(data) / 1e6
            memory.append(resident_megabytes() - kept)

        try_one()
        self.assertLess(memory[-1] - memory[len(memory) // 4], MEGABYTES)

    def test_a_few_of_each_kind(self):
        for kind in KINDS:
            with self.subTest(kind):
                self.check(kind, EVERYDAY, same=True)

    def test_the_shares_are_of_all(self):
        self.assertAlmostEqual(sum(share for _, share in KINDS.values()), 1)

    @pytest.mark.slow
    def test_20_000_files(self):
        for kind, (_, share) in KINDS.items():
            with self.subTest(kind):
                self.check(kind, round(share * NIGHTLY), same=False)


if __name__ == "__main__":
    unittest.main()
