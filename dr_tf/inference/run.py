"""What a finished run leaves for prediction: `model.keras`, `decision.json`, `gate.npz` and, if requested for, `neighbours.npz`.

For evaluation there is `calibration.npz` besides: what the rule was fitted on, and which photographs the network was.
"""

import dataclasses
import pathlib
import zipfile

import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.inference.gate import from_arrays, to_arrays
from dr_tf.inference.nearest_neighbours import load_neighbours
from dr_tf.inference.network import load_network
from dr_tf.inference.rule_file import read_rule, write_rule
from dr_tf.models.heads import HEADS

DECISION, GATE, NEIGHBOURS, MODEL = "decision.json", "gate.npz", "neighbours.npz", "model.keras"
CALIBRATION = "calibration.npz"
# Of a run by folds: what each fold's network said of the photographs held out from it, and all of that together.
HELD_OUT, OUT_OF_FOLD = "held_out.npz", "out_of_fold.npz"
_SCORES, _OUTPUT = "scores ", "output "


@dataclasses.dataclass(frozen=True)
class Run:
    """All that decides: a network, the rule fitted on its answers, how photographs are prepared for it, and the gate."""

    network: object
    rule: object
    preparation: object
    feature_distribution: object = None  # where the features of training lie; None where that was not kept


def load_run(run_dir):
    folder = pathlib.Path(run_dir)
    check_finished(folder)
    rule, preparation = read_rule(folder / DECISION, HEADS)
    network = load_network(folder / MODEL)
    _check_alike(folder, network, rule, preparation)
    feature_distribution = _read(folder / GATE, from_arrays)
    if feature_distribution is not None and feature_distribution.width != network.width:
        raise UserError(
            f"{folder / GATE} reads {feature_distribution.width} features, the network beside it has {network.width}"
        )
    return Run(network, rule, preparation, feature_distribution)


def _check_alike(folder, network, rule, preparation):
    if set(network.outputs) != set(rule.heads):
        raise UserError(f"{folder}: the network's outputs ({', '.join(network.outputs)}) are not those of {DECISION}")
    if network.image_size != preparation.image_size:
        raise UserError(
            f"{folder}: the network takes {network.image_size} pixels, {DECISION} says {preparation.image_size}"
        )


def check_finished(run_dir):
    absent = [name for name in (DECISION, MODEL) if not (pathlib.Path(run_dir) / name).exists()]
    if absent:
        raise UserError(f"{run_dir} is no finished run: it has no {' and no '.join(absent)}")


def read_neighbours(run_dir, requested, network):
    """The run's neighbours if what is requested for takes one, else None: it may be larger than the network."""
    if not requested.votes:
        return None
    path = pathlib.Path(run_dir) / NEIGHBOURS
    neighbours = load_neighbours(path)
    found, wanted = (len(neighbours.mean), neighbours.ballots.shape[1]), (network.width, len(requested.head.classes))
    if found != wanted:
        said = " and ".join(f"{n} {what}" for n, what in zip(found, ("features", "classes"), strict=True))
        raise UserError(f"{path} is of another network: {said}, where this one has {wanted[0]} and {wanted[1]}")
    return neighbours


@dataclasses.dataclass(frozen=True)
class ScoredRows:
    """What networks scored to rows of the records: scores by mode, logits by output, how far features lie from training."""

    rows: np.ndarray
    scores: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    distances: np.ndarray

    @classmethod
    def joined(cls, parts):
        """Those of `parts`, one below the other."""
        return cls(
            np.concatenate([part.rows for part in parts]),
            {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
            {name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs},
            np.concatenate([part.distances for part in parts]),
        )


def write_scored_rows(path, scored, **more):
    """`more`: further arrays."""
    arrays = {_SCORES + name: values for name, values in scored.scores.items()}
    arrays |= {_OUTPUT + name: values for name, values in scored.outputs.items()}
    with files.appearing(pathlib.Path(path)) as unfinished, open(unfinished, "wb") as file:
        np.savez(file, rows=scored.rows, distances=scored.distances, **arrays, **more)


def read_scored_rows(path):
    """(ScoredRows, {name: further arrays}); None where there is no such file."""
    arrays = _read(pathlib.Path(path), dict)
    if arrays is None:
        return None
    try:
        rows, distances = arrays.pop("rows"), arrays.pop("distances")
    except KeyError as error:
        raise UserError(
            f"{path} cannot be read: it has no {error.args[0]!r}; an earlier version may have written it"
        ) from None
    found = {prefix: {} for prefix in (_SCORES, _OUTPUT)}
    for prefix, into in found.items():
        for name in [name for name in arrays if name.startswith(prefix)]:
            into[name.removeprefix(prefix)] = arrays.pop(name)
    return ScoredRows(rows, found[_SCORES], found[_OUTPUT], distances), arrays


def read_calibration(run_dir):
    """(what the rule was fitted on, {"fitted": rows that the network learned from, "names": of the rows}), or None."""
    return read_scored_rows(pathlib.Path(run_dir) / CALIBRATION)


def write_decision(run_dir, rule, preparation, feature_distribution, neighbours=None):
    folder = pathlib.Path(run_dir)
    if neighbours is not None:
        neighbours.save(folder / NEIGHBOURS)
    write_rule(folder / DECISION, rule, preparation)
    if feature_distribution is not None:
        with files.appearing(folder / GATE) as path, open(path, "wb") as file:
            np.savez(file, **to_arrays(feature_distribution))


def _read(path, made_of):
    """What `made_of` makes of the arrays in a file, None where there is no such file."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return made_of(arrays)
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
