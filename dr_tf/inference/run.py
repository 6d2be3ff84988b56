"""The files of a finished run: what prediction loads, and what evaluation reads about calibration.

Prediction needs `model.keras` or an exported network, `decision.json`, `gate.npz` and, for modes with neighbours,
`neighbours.npz`. Evaluation also reads `calibration.npz`: the scores that the rule was fitted on, and the examples that the network was trained on.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from dr_tf import files
from dr_tf.archives import UNREADABLE, check_archive
from dr_tf.console import UserError
from dr_tf.inference.export_file import EXPORT, check_heads
from dr_tf.inference.gate import AnyFeatureDistribution, from_arrays, to_arrays
from dr_tf.inference.modes import RequestedModes
from dr_tf.inference.nearest_neighbours import Neighbours, load_neighbours
from dr_tf.inference.network import MODEL, TWIN, Network, find_export, load_network
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.ready import check_released
from dr_tf.inference.rule import Rule
from dr_tf.inference.rule_file import read_rule, write_rule
from dr_tf.models.heads import HEADS
from dr_tf.models.heads.head import Head
from dr_tf.safe_names import printable

DECISION, GATE, NEIGHBOURS = "decision.json", "gate.npz", "neighbours.npz"
CALIBRATION = "calibration.npz"
# Of cross-validation: each fold network's scores of its held-out examples, and those of all folds together.
HELD_OUT, OUT_OF_FOLD = "held_out.npz", "out_of_fold.npz"
_SCORES, _OUTPUT = "scores ", "output "  # prefixes of array names

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that determines a decision.

    Attributes:
        network: the trained network.
        rule: the decision rule fitted on its scores.
        preparation: the steps from an original image to the network's input.
        feature_distribution: of the training features, for the gate; None if the run has none.
    """

    network: Network
    rule: Rule
    preparation: Preparation
    feature_distribution: AnyFeatureDistribution | None = None


def load_run(run_dir: str | os.PathLike, *, keras: bool = False) -> Run:
    """Load a finished run or an export.

    Args:
        run_dir: the folder of the run or the export.
        keras: as in `load_network`.

    Raises:
        UserError: a file is missing or unreadable, or two files are not of the same network; or the folder is the model
            that comes with dr_tf, and is not as it was released.
    """
    folder = pathlib.Path(run_dir)
    check_released(folder)
    check_finished(folder)
    rule, preparation = read_rule(folder / DECISION, HEADS)
    if not keras and (at_hand := find_export(folder)) is not None:
        check_heads(at_hand[1], rule.heads, folder)
    network = load_network(folder, keras=keras)
    _check_consistent(folder, network, rule, preparation)
    distribution = _read_arrays(folder / GATE, from_arrays)
    if distribution is not None and distribution.width != network.width:
        raise UserError(f"{folder / GATE} is for {distribution.width} features, the network has {network.width}")
    return Run(network, rule, preparation, distribution)


def _check_consistent(folder, network, rule, preparation):
    if set(network.outputs) != set(rule.heads):
        raise UserError(f"{folder}: the network's outputs ({', '.join(network.outputs)}) are not those of {DECISION}")
    if network.image_size != preparation.image_size:
        raise UserError(
            f"{folder}: the network takes {network.image_size} pixels, {DECISION} has {preparation.image_size}"
        )


def check_finished(run_dir: str | os.PathLike) -> None:
    """Raise a UserError if a run directory lacks the decision, or the model and any export of it."""

    def has(*name: str) -> bool:
        return os.path.exists(os.path.join(run_dir, *name))

    absent = [] if has(DECISION) else [DECISION]
    absent += [] if has(MODEL) or has(EXPORT) or has(TWIN, EXPORT) else [MODEL]
    if absent:
        raise UserError(f"{printable(run_dir)} is no finished run: it has no {' and no '.join(absent)}")


def read_neighbours(run_dir: str | os.PathLike, requested: RequestedModes, network: Network) -> Neighbours | None:
    """Read the nearest neighbours of a run, which may be larger than the network.

    Args:
        run_dir: of the run.
        requested: without a mode that votes, nothing is read.
        network: of the run.

    Returns:
        The Neighbours; None if no mode votes.

    Raises:
        UserError: the file cannot be read, or is of another network.
    """
    return open_neighbours(run_dir, requested.head, network) if requested.votes else None


def open_neighbours(run_dir: str | os.PathLike, head: Head, network: Network) -> Neighbours:
    """Read the nearest neighbours of a run.

    Args:
        run_dir: of the run.
        head: the head whose classes they have.
        network: of the run.

    Raises:
        UserError: the file cannot be read, or is of another network.
    """
    path = pathlib.Path(run_dir) / NEIGHBOURS
    neighbours = load_neighbours(path)
    shape = len(neighbours.mean), neighbours.one_hot_labels.shape[1]
    expected = network.width, len(head.classes)
    if shape != expected:
        raise UserError(
            f"{path} is of another network: it has {shape[0]} features and {shape[1]} classes, the network "
            f"{expected[0]} and {expected[1]}"
        )
    return neighbours


@dataclasses.dataclass(frozen=True)
class ScoredRows:
    """The scores of rows of a record set.

    Attributes:
        rows: of the record set [n].
        scores: {mode: scores [n, ...]}.
        outputs: {output: logits [n, ...]}.
        distances: out-of-distribution distance of each row [n].
    """

    rows: np.ndarray
    scores: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    distances: np.ndarray

    def take(self, places: np.ndarray) -> ScoredRows:
        """Return the scores of some of the rows, by their places among them."""
        return ScoredRows(
            self.rows[places],
            {name: values[places] for name, values in self.scores.items()},
            {name: values[places] for name, values in self.outputs.items()},
            self.distances[places],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[ScoredRows]) -> ScoredRows:
        """Concatenate the rows of several ScoredRows with the same modes and outputs."""
        return cls(
            np.concatenate([part.rows for part in parts]),
            {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
            {name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs},
            np.concatenate([part.distances for part in parts]),
        )


def write_scored_rows(path: str | os.PathLike, scored: ScoredRows, **more: np.ndarray) -> None:
    """Write scores to an .npz file, with further arrays by name."""
    arrays: dict[str, Any] = {"rows": scored.rows, "distances": scored.distances}
    arrays |= {_SCORES + name: values for name, values in scored.scores.items()}
    arrays |= {_OUTPUT + name: values for name, values in scored.outputs.items()}
    with files.atomic_write(pathlib.Path(path)) as unfinished, open(unfinished, "wb") as file:
        np.savez(file, **arrays | more)


def read_scored_rows(path: str | os.PathLike) -> tuple[ScoredRows, dict[str, np.ndarray]] | None:
    """Read what `write_scored_rows` wrote.

    Returns:
        (ScoredRows, {name: further array}); None if there is no such file.

    Raises:
        UserError: the file cannot be read.
    """
    arrays = _read_arrays(pathlib.Path(path), dict)
    if arrays is None:
        return None
    try:
        rows, distances = arrays.pop("rows"), arrays.pop("distances")
    except KeyError as error:
        raise UserError(
            f"{path} cannot be read: it has no {error.args[0]!r}; an earlier version may have written it"
        ) from None
    by_prefix: dict[str, dict[str, np.ndarray]] = {_SCORES: {}, _OUTPUT: {}}
    for prefix, by_name in by_prefix.items():
        for name in [name for name in arrays if name.startswith(prefix)]:
            by_name[name.removeprefix(prefix)] = arrays.pop(name)
    return ScoredRows(rows, by_prefix[_SCORES], by_prefix[_OUTPUT], distances), arrays


def read_calibration(run_dir: str | os.PathLike) -> tuple[ScoredRows, dict[str, np.ndarray]] | None:
    """Read the scores that a run's rule was fitted on.

    Returns:
        (ScoredRows, {"names": names of these rows, "fitted": rows that the network was trained on, ...}); None if the
        run has no such file.
    """
    return read_scored_rows(pathlib.Path(run_dir) / CALIBRATION)


def write_decision(
    run_dir: str | os.PathLike,
    rule: Rule,
    preparation: Preparation,
    feature_distribution: AnyFeatureDistribution | None,
    neighbours: Neighbours | None = None,
) -> None:
    """Write the files of a run that prediction needs beside the model."""
    folder = pathlib.Path(run_dir)
    if neighbours is not None:
        neighbours.save(folder / NEIGHBOURS)
    write_rule(folder / DECISION, rule, preparation)
    if feature_distribution is not None:
        with files.atomic_write(folder / GATE) as path, open(path, "wb") as file:
            arrays: Mapping[str, Any] = to_arrays(feature_distribution)
            np.savez(file, **arrays)


def _read_arrays(path: pathlib.Path, convert: Callable[[Any], T]) -> T | None:
    """The converted arrays of an .npz file; None if there is no such file."""
    if not path.exists():
        return None
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as arrays:
            return convert(arrays)
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read: {error}") from None
