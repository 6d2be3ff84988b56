"""Keras callbacks of a training run: checkpoints and early stopping, averaged weights, NaN losses, expected duration."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.training.checkpoints import Checkpoints, Weights, averaged_weights, model_weights, set_weights
from dr_tf.training.history import Monitor, best_epoch, history_csv, is_out_of_patience
from dr_tf.training.run_directory import RunDirectory


class CheckpointAndEarlyStopping(keras.callbacks.Callback):
    """Keeps the history and the best weights, writes checkpoints, and stops when patience runs out.

    All decisions depend on the history only, which a checkpoint contains: a resumed run decides as an uninterrupted one.

    Args:
        run: the run directory.
        checkpoints: checkpoints of the run.
        every: epochs between checkpoints.
        epochs: number of epochs.
        monitor: (metric, direction) that selects the best epoch; None to keep the last.
        patience: epochs without improvement after which training stops; None for no early stopping.
        restored: (history, best weights) of the newest checkpoint.
    """

    def __init__(
        self,
        run: RunDirectory,
        checkpoints: Checkpoints,
        *,
        every: int,
        epochs: int,
        monitor: Monitor | None = None,
        patience: int | None = None,
        restored: tuple[list[dict[str, float]], Weights | None] = ([], None),
    ) -> None:
        super().__init__()
        self._run, self._checkpoints = run, checkpoints
        self._every, self._epochs, self._monitor, self._patience = every, epochs, monitor, patience
        self.history, self._best = list(restored[0]), restored[1]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the epoch, write a checkpoint if one is due, and stop if the run is finished."""
        row = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append(row | {"learning_rate": float(np.array(self.model.optimizer.learning_rate))})
        if self._monitor and best_epoch(self.history, self._monitor) == len(self.history) - 1:
            self._best = averaged_weights(self.model)
        self.model.stop_training |= self.finished
        if self._run.writes:
            self._write()

    def _write(self):
        if len(self.history) % self._every == 0 or self.finished:
            self._checkpoints.save(self.model, self.history, self._best)
        files.write_text(self._run.path / "history.csv", history_csv(self.history))

    def kept_weights(self) -> Weights:
        """Return the weights of the best epoch, or those of the last if none is selected."""
        if not self.history:
            return model_weights(self.model)
        return averaged_weights(self.model) if self._best is None else self._best

    @property
    def finished(self) -> bool:
        """Whether training has had all its epochs or run out of patience."""
        if self._monitor and self.history and is_out_of_patience(self.history, self._monitor, self._patience):
            return True
        return len(self.history) >= self._epochs


class ValidateAveragedWeights(keras.callbacks.Callback):
    """Validates the moving average of the weights.

    Keras' SwapEMAWeights swaps by adding and subtracting, which changes the weights a little.
    """

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Set the averaged weights."""
        self._current = model_weights(self.model)
        set_weights(self.model, averaged_weights(self.model))

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Set the current weights again."""
        set_weights(self.model, self._current)


class StopAtNaN(keras.callbacks.Callback):
    """Stops with a UserError when the loss is not finite.

    Args:
        names_of: function (epoch, step) -> names of the examples of a batch, for the message.
    """

    def __init__(self, names_of: Callable[[int, int], Sequence[str]]) -> None:
        super().__init__()
        self._names_of = names_of
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remember the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the loss, which is a running mean: it is NaN from the first bad batch of the epoch on."""
        loss = (logs or {})["loss"]
        if not np.isfinite(loss):
            names = ", ".join(self._names_of(self._epoch, batch))
            raise UserError(
                f"the loss is {loss} in epoch {self._epoch + 1}, step {batch + 1}; try a lower learning rate "
                f"or optimization.clip_norm; the batch was {names}"
            )


class LogExpectedDuration(keras.callbacks.Callback):
    """Logs the expected duration of the run once, after the first seconds of training.

    Args:
        steps: training steps of the run.
    """

    _MEASURED_SECONDS = 3

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps, self._done = steps, 0
        self._started: float | None = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the duration once enough steps were measured."""
        self._done += 1
        if self._started is None:  # the first step traces and compiles
            self._started = time.monotonic()
        elif self._steps and (elapsed := time.monotonic() - self._started) > self._MEASURED_SECONDS:
            per_step = elapsed / (self._done - 1)
            logging.info("about %s of training, at %.0f ms per step", duration(per_step * self._steps), per_step * 1e3)
            self._steps = 0


def duration(seconds: float) -> str:
    """Return a duration in words, such as "12 minutes"."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
