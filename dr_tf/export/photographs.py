"""The photographs of a run's records by which an export is compared and quantized. The test split is never used."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.batches import image_batches
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import Records, open_records
from dr_tf.inference.network import ImageBatch
from dr_tf.inference.run import read_calibration

_COMPARED, _QUANTIZED, _SCALED = 128, 100, 256  # photographs, at most
_BATCH = 16


class Photographs:
    """The photographs of a run's records.

    Args:
        run_dir: of the run.
        records_root: the folder of record sets.
        dataset: the record set that the run was trained on.
        image_size: the side of the network's images in pixels.

    Attributes:
        calibration: rows that the decision rule was fitted on.
        fitted: rows that the network was trained on.

    Raises:
        UserError: the records are not those of the run, or the run has no calibration.
    """

    def __init__(self, run_dir: str | os.PathLike, records_root: str | os.PathLike, dataset: str, image_size: int):
        self.records = open_records(records_root, dataset.split("+") if "+" in dataset else dataset)
        stored = read_calibration(run_dir)
        if stored is None or not len(stored[0].rows):
            raise UserError(f"{run_dir} has no calibration to take photographs of; leave out --records")
        self.calibration, self.fitted = stored[0].rows, stored[1]["fitted"]
        _check_names(run_dir, self.records, self.calibration, stored[1]["names"])
        self.images = ImageLoader(self.records, image_size=image_size, cache="none")

    @property
    def name(self) -> str:
        """The record set, and the split that is compared."""
        return f"{self.records.name}, {self._compared()[0]}"

    @property
    def calibration_was_fitted(self) -> bool:
        """Whether the network was trained on its calibration photographs, which the networks of folds had scored."""
        return bool(np.isin(self.calibration, self.fitted).any())

    def to_compare(self) -> Iterator[ImageBatch]:
        """Yield batches of photographs of the validation split or, where there is none, of the calibration rows."""
        return (x for x, _ in image_batches(self.images, rows=self._compared()[1], batch_size=_BATCH))

    def to_scale(self) -> Iterator[ImageBatch]:
        """Yield batches of photographs of the calibration rows, for the colour scale of maps."""
        return (x for x, _ in image_batches(self.images, rows=_some(self.calibration, _SCALED), batch_size=_BATCH))

    def to_quantize(self, inputs: Collection[str]) -> list[Mapping[str, np.ndarray]]:
        """Return batches of one case of the calibration rows, {name of an input: array}, with these inputs."""
        rows = _some(self.calibration, _QUANTIZED)
        batches = (x for x, _ in image_batches(self.images, rows=rows, batch_size=1))
        by_name = (x if isinstance(x, Mapping) else {"images": x} for x in batches)
        return [{name: np.array(x[name]) for name in inputs} for x in by_name]

    def _compared(self) -> tuple[str, np.ndarray]:
        splits = self.records.columns["split"]
        validation = np.setdiff1d(np.flatnonzero(splits == "validation"), self.calibration)
        name, rows = ("validation", validation) if len(validation) else ("calibration", self.calibration)
        return name, _some(rows, _COMPARED)


def _some(rows, most):
    return np.sort(np.random.default_rng(0).permutation(rows)[:most])


def _check_names(run_dir: str | os.PathLike, records: Records, rows: np.ndarray, names: np.ndarray) -> None:
    column = records.columns["patient_id" if records.paired else "image_id"]
    if rows.max(initial=-1) >= len(column) or not np.array_equal(
        np.asarray(column)[rows].astype(str), names.astype(str)
    ):
        raise UserError(f"{records.name} is not the record set that {run_dir} was calibrated on")
