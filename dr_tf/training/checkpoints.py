"""The whole state of a run after an epoch, written so that a kill at any moment leaves the one before intact.

A checkpoint is a folder with `variables.npz`, `best.npz` (the weights of the best epoch so far, where one is chosen) and
`history.json`. All are plain numbers: reading one runs no code.
"""

import json
import pathlib
import re
import shutil
import zipfile

import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.models.keras_private import moving_averages

_NAME = re.compile(r"epoch-(\d{5})")


class Checkpoints:
    def __init__(self, directory, keep=2):
        self.directory = pathlib.Path(directory)
        self._keep = keep

    def save(self, model, history, best=None):
        """After len(history) epochs; the newest `keep` stay."""
        with files.appearing(self.directory / f"epoch-{len(history):05}") as folder:
            folder.mkdir()
            np.savez(folder / "variables.npz", **state_of(model))
            if best is not None:
                np.savez(folder / "best.npz", **best)
            (folder / "history.json").write_text(json.dumps(history), encoding="utf-8")
        for _, old in sorted(self._found())[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)

    def restore(self, model):
        """Sets the state of the newest checkpoint; its (history, best weights or None), ([], None) without any."""
        for path in self.directory.glob(".unfinished-*"):  # of a run that was killed while it wrote
            shutil.rmtree(path, ignore_errors=True)
        if not (found := self._found()):
            return [], None
        folder = max(found)[1]
        set_state(model, _arrays(folder / "variables.npz"), folder)
        best = folder / "best.npz"
        history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        return history, _arrays(best) if best.exists() else None

    def _found(self):
        if not self.directory.is_dir():
            return []
        matches = [(_NAME.fullmatch(path.name), path) for path in self.directory.iterdir()]
        return [(int(match.group(1)), path) for match, path in matches if match]


def state_of(model):
    """Everything that training moves: weights, moving statistics, seeds of dropout, the optimizer's variables."""
    return {name: variable.numpy() for name, variable in _variables(model).items()}


def set_state(model, values, source):
    variables = _variables(model)
    same = {name: value.shape for name, value in values.items()} == {n: tuple(v.shape) for n, v in variables.items()}
    if not same:
        raise UserError(f"{source} holds the state of another model; use another --run_dir, or the config that made it")
    for name, variable in variables.items():
        variable.assign(values[name])


def weights(model):
    """What the finished model will hold: weights, moving statistics, seeds, each by name."""
    return {name: variable.numpy() for name, variable in _weights(model).items()}


def weights_with_average(model):
    """`weights`, the trained ones averaged where the optimizer keeps an average of them."""
    averages = _averages(model)
    return {name: averages.get(id(v), v).numpy() for name, v in _weights(model).items()}


def set_weights(model, values):
    for name, variable in _weights(model).items():
        variable.assign(values[name])


def _weights(model):
    return {name: v for name, v in _variables(model).items() if name.startswith("model")}


def _averages(model):
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # of mixed precision's loss scaling
    if not optimizer.use_ema:
        return {}
    kept = moving_averages(optimizer)
    return {id(v): average for v, average in zip(model.trainable_variables, kept, strict=True)}


def _variables(model):
    # Numbered and without paths: Keras counts layers on in a process, so that the same network is named anew.
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {f"{group}-{i:04}": v for group, found in groups.items() for i, v in enumerate(found)}


def _arrays(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {error}; remove its folder to go on from the one before") from None
