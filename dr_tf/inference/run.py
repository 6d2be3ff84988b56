"""What a finished run leaves for prediction: `model.keras`, `decision.json`, `gate.npz` and, if asked for, `bank.npz`."""

import pathlib

import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.inference.gate import from_arrays, to_arrays
from dr_tf.inference.modes import by_neighbours
from dr_tf.inference.neighbours import load_bank
from dr_tf.inference.network import Network
from dr_tf.inference.rule_file import read_rule, write_rule
from dr_tf.models.heads import HEADS

DECISION, GATE, BANK, MODEL = "decision.json", "gate.npz", "bank.npz", "model.keras"


def load_run(run_dir):
    """(network, rule, preparation, cloud or None)."""
    folder = pathlib.Path(run_dir)
    absent = [name for name in (DECISION, MODEL) if not (folder / name).exists()]
    if absent:
        raise UserError(f"{run_dir} is no finished run: it has no {' and no '.join(absent)}")
    rule, preparation = read_rule(folder / DECISION, HEADS)
    network = Network.load(folder / MODEL)
    return network, rule, preparation, _read_cloud(folder / GATE)


def read_bank(run_dir, modes):
    """The run's bank if one of these modes takes it, else None: it may be larger than the network."""
    return load_bank(pathlib.Path(run_dir) / BANK) if by_neighbours(modes) else None


def write_decision(run_dir, rule, preparation, cloud, bank=None):
    folder = pathlib.Path(run_dir)
    if bank is not None:
        bank.save(folder / BANK)
    write_rule(folder / DECISION, rule, preparation)
    if cloud is not None:
        with files.appearing(folder / GATE) as path, open(path, "wb") as file:
            np.savez(file, **to_arrays(cloud))


def _read_cloud(path):
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return from_arrays(arrays)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
