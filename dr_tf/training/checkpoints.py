"""Checkpoints: the complete training state after an epoch, written so that a kill at any moment leaves the last one intact.

A checkpoint is a folder with `variables.npz`, `best.npz` (weights of the best epoch so far, if one is selected) and
`history.json`. The files contain only numbers: reading them runs no code.
"""

import json
import os
import pathlib
import re
import shutil

import keras
import numpy as np

from dr_tf import files
from dr_tf.archives import UNREADABLE, check_archive
from dr_tf.console import UserError
from dr_tf.models.keras_private import moving_averages

Weights = dict[str, np.ndarray]  # {name: value} of a model's variables

_NAME = re.compile(r"epoch-(\d{5})")


class Checkpoints:
    """Checkpoints of a run.

    Args:
        directory: folder of the checkpoints.
        keep: number of checkpoints that are kept, the newest ones.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 2) -> None:
        self.directory = pathlib.Path(directory)
        self._keep = keep

    def save(self, model: keras.Model, history: list[dict[str, float]], best: Weights | None = None) -> None:
        """Write the checkpoint of epoch len(history) and remove old ones.

        Args:
            model: compiled model in training.
            history: {metric: value} of each epoch.
            best: weights of the best epoch so far.
        """
        with files.atomic_write(self.directory / f"epoch-{len(history):05}") as folder:
            folder.mkdir()
            np.savez(folder / "variables.npz", **training_state(model))  # type: ignore[arg-type]
            if best is not None:
                np.savez(folder / "best.npz", **best)  # type: ignore[arg-type]
            (folder / "history.json").write_text(json.dumps(history), encoding="utf-8")
        for _, old in sorted(self._epochs())[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)

    def restore(self, model: keras.Model) -> tuple[list[dict[str, float]], Weights | None]:
        """Set the model's state to that of the newest checkpoint.

        Returns:
            (history, best weights or None); ([], None) if there is no checkpoint.

        Raises:
            UserError: the checkpoint is damaged or of another model.
        """
        files.remove_unfinished(self.directory)
        if not (epochs := self._epochs()):
            return [], None
        folder = max(epochs)[1]
        set_training_state(model, _read_arrays(folder / "variables.npz"), folder)
        best = folder / "best.npz"
        history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        return history, _read_arrays(best) if best.exists() else None

    def _epochs(self):
        if not self.directory.is_dir():
            return []
        matches = [(_NAME.fullmatch(path.name), path) for path in self.directory.iterdir()]
        return [(int(match.group(1)), path) for match, path in matches if match]


def training_state(model: keras.Model) -> Weights:
    """Return everything that training changes: weights, moving statistics, seeds of dropout, optimizer variables."""
    return {name: variable.numpy() for name, variable in _variables(model).items()}


def set_training_state(model: keras.Model, values: Weights, source: str | os.PathLike) -> None:
    """Set what `training_state` returned. Raises UserError, naming `source`, if the state is of another model."""
    variables = _variables(model)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    if {name: value.shape for name, value in values.items()} != shapes:
        raise UserError(f"{source} is a checkpoint of another model; use another --run_dir, or the config of that run")
    for name, variable in variables.items():
        variable.assign(values[name])


def model_weights(model: keras.Model) -> Weights:
    """Return the weights, moving statistics and seeds of a model by name."""
    return {name: variable.numpy() for name, variable in _model_variables(model).items()}


def averaged_weights(model: keras.Model) -> Weights:
    """Return `model_weights` with moving averages in place of trained weights, if the optimizer keeps averages."""
    averages = _averages(model)
    return {name: averages.get(id(v), v).numpy() for name, v in _model_variables(model).items()}


def set_weights(model: keras.Model, values: Weights) -> None:
    """Set what `model_weights` or `averaged_weights` returned."""
    for name, variable in _model_variables(model).items():
        variable.assign(values[name])


def _model_variables(model):
    return {name: v for name, v in _variables(model).items() if name.startswith("model")}


def _averages(model):
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # of mixed precision's loss scaling
    if not optimizer.use_ema:
        return {}
    averages = moving_averages(optimizer)
    return {id(v): average for v, average in zip(model.trainable_variables, averages, strict=True)}


def _variables(model):
    # Named by number, not by path: Keras counts layers throughout a process, so the same network gets other names.
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {f"{group}-{i:04}": v for group, variables in groups.items() for i, v in enumerate(variables)}


def _read_arrays(path):
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read: {error}; delete its folder to resume from the checkpoint before"
        ) from None
