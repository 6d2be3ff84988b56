"""Names of examples that identify them across record sets, and those that a run was trained on."""

import os

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import Records
from dr_tf.inference.run import CALIBRATION, read_calibration


def example_names(records: Records, rows: np.ndarray) -> np.ndarray:
    """Return a name for each row that is the same in every record set that contains the example: SET/NAME."""
    names = records.columns["patient_id" if records.paired else "image_id"][rows]
    if len(records.parts) > 1:  # in joined sets the names begin with that of the set
        return names
    return np.array(
        [f"{dataset}/{name}" for dataset, name in zip(records.columns["dataset"][rows], names, strict=True)]
    )


def fitted_example_names(run_dir: str | os.PathLike) -> np.ndarray:
    """Return the names of the examples that a run was trained on, as `example_names` returns them.

    Raises:
        UserError: the run does not contain them.
    """
    calibration = read_calibration(run_dir)
    if calibration is None or "fitted_names" not in calibration[1]:
        raise UserError(f"{run_dir} does not list the images it was trained on ({CALIBRATION}): train it again")
    fitted = calibration[1]["fitted_names"]
    return np.concatenate([fitted, calibration[1].get("mask_names", fitted[:0])])
