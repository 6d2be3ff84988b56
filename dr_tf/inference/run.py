"""What a finished run leaves for prediction: `model.keras`, `decision.json`, `gate.npz`; if asked for, `bank.npz` and `dme.npz`.

For evaluation there is `calibration.npz` besides: what the rule was fitted on, and which photographs the network was.
"""

import pathlib
import zipfile

import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.inference.edema import Edema
from dr_tf.inference.gate import from_arrays, to_arrays
from dr_tf.inference.modes import by_neighbours
from dr_tf.inference.neighbours import load_bank
from dr_tf.inference.network import Network
from dr_tf.inference.rule_file import read_rule, write_rule
from dr_tf.models.heads import HEADS

DECISION, GATE, BANK, EDEMA, MODEL = "decision.json", "gate.npz", "bank.npz", "dme.npz", "model.keras"
CALIBRATION = "calibration.npz"
# Of a run by folds: what each fold's network said of the photographs held out from it, and all of that together.
HELD_OUT, OUT_OF_FOLD = "held_out.npz", "out_of_fold.npz"


def load_run(run_dir):
    """(network, rule, preparation, cloud or None)."""
    folder = pathlib.Path(run_dir)
    check_finished(folder)
    rule, preparation = read_rule(folder / DECISION, HEADS)
    network = Network.load(folder / MODEL)
    cloud = _read(folder / GATE, from_arrays)
    if cloud is not None and cloud.width != network.width:
        raise UserError(f"{folder / GATE} reads {cloud.width} features, the network beside it has {network.width}")
    return network, rule, preparation, cloud


def check_finished(run_dir):
    absent = [name for name in (DECISION, MODEL) if not (pathlib.Path(run_dir) / name).exists()]
    if absent:
        raise UserError(f"{run_dir} is no finished run: it has no {' and no '.join(absent)}")


def read_bank(run_dir, modes):
    """The run's bank if one of these modes takes it, else None: it may be larger than the network."""
    return load_bank(pathlib.Path(run_dir) / BANK) if by_neighbours(modes) else None


def read_edema(run_dir, width):
    """What tells the risk of macular edema from so many features; None where the run did not learn it."""
    path = pathlib.Path(run_dir) / EDEMA
    found = _read(path, lambda arrays: Edema(arrays["kernel"], arrays["bias"]))
    if found is not None and len(found.kernel) != width:
        raise UserError(f"{path} reads {len(found.kernel)} features, the network beside it has {width}")
    return found


def write_edema(run_dir, edema):
    with files.appearing(pathlib.Path(run_dir) / EDEMA) as path, open(path, "wb") as file:
        np.savez(file, kernel=edema.kernel, bias=edema.bias)


def read_preparation(run_dir):
    return read_rule(pathlib.Path(run_dir) / DECISION, HEADS)[1]


def write_calibration(run_dir, *, fitted, rows, names, logits):
    """`rows` of the records, their `names` there, and {mode: logits}; `fitted`: rows that the network learned from."""
    with files.appearing(pathlib.Path(run_dir) / CALIBRATION) as path, open(path, "wb") as file:
        np.savez(file, fitted=fitted, rows=rows, names=names, **{f"logits {mode}": x for mode, x in logits.items()})


def read_calibration(run_dir):
    """{fitted, rows, names, "logits MODE"}; None for a run of before there was such a file."""
    return _read(pathlib.Path(run_dir) / CALIBRATION, dict)


def write_decision(run_dir, rule, preparation, cloud, bank=None):
    folder = pathlib.Path(run_dir)
    if bank is not None:
        bank.save(folder / BANK)
    write_rule(folder / DECISION, rule, preparation)
    if cloud is not None:
        with files.appearing(folder / GATE) as path, open(path, "wb") as file:
            np.savez(file, **to_arrays(cloud))


def _read(path, made_of):
    """What `made_of` makes of the arrays in a file, None where there is no such file."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return made_of(arrays)
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
