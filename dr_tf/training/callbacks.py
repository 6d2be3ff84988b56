"""What happens around a run's steps and epochs."""

import time

import keras
import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.training.checkpoints import set_weights, weights, weights_with_average
from dr_tf.training.history import as_csv, best_epoch, out_of_patience


class Recorder(keras.callbacks.Callback):
    """Keeps history and the best weights, writes checkpoints, and stops where patience is out.

    All it decides follows from the history, which a checkpoint holds: a resumed run decides as one never killed.
    """

    def __init__(self, run, checkpoints, *, every, epochs, monitor=None, patience=None, start=([], None)):
        super().__init__()
        self._run, self._checkpoints = run, checkpoints
        self._every, self._epochs, self._monitor, self._patience = every, epochs, monitor, patience
        self.history, self.best = start

    def on_epoch_end(self, epoch, logs=None):
        row = {name: float(value) for name, value in logs.items()}
        self.history.append(row | {"learning_rate": float(np.array(self.model.optimizer.learning_rate))})
        if self._monitor and best_epoch(self.history, self._monitor) == len(self.history) - 1:
            self.best = weights_with_average(self.model)
        self.model.stop_training |= self.finished
        if self._run.writes:
            self._write()

    def _write(self):
        if len(self.history) % self._every == 0 or self.finished:
            self._checkpoints.save(self.model, self.history, self.best)
        files.write_text(self._run.path / "history.csv", as_csv(self.history))

    def kept_weights(self):
        return weights_with_average(self.model) if self.best is None else self.best

    @property
    def finished(self):
        early = bool(self._monitor and self.history) and out_of_patience(self.history, self._monitor, self._patience)
        return early or len(self.history) >= self._epochs


class ValidateAverage(keras.callbacks.Callback):
    """Validates the averaged weights. Keras' SwapEMAWeights swaps by adding and subtracting, which moves them a little."""

    def on_test_begin(self, logs=None):
        self._own = weights(self.model)
        set_weights(self.model, weights_with_average(self.model))

    def on_test_end(self, logs=None):
        set_weights(self.model, self._own)


class StopAtNaN(keras.callbacks.Callback):
    """`names_of(epoch, step)` names the photographs of a batch."""

    def __init__(self, names_of):
        super().__init__()
        self._names_of = names_of
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        # The running mean of an epoch turns NaN at the first bad batch and stays so.
        if not np.isfinite(logs["loss"]):
            names = ", ".join(self._names_of(self._epoch, batch))
            raise UserError(
                f"the loss is {logs['loss']} in epoch {self._epoch + 1}, step {batch + 1}; try a lower learning rate "
                f"or optimization.clip_norm; the batch was {names}"
            )


class ExpectedTime(keras.callbacks.Callback):
    """Says once, after the first steps, how long the run will take."""

    _WATCHED_S = 3

    def __init__(self, steps):
        super().__init__()
        self._steps, self._done, self._started = steps, 0, None

    def on_train_batch_end(self, batch, logs=None):
        self._done += 1
        if self._started is None:  # the first step traces and compiles
            self._started = time.monotonic()
        elif self._steps and (took := time.monotonic() - self._started) > self._WATCHED_S:
            each = took / (self._done - 1)
            logging.info("about %s of training, at %.0f ms a step", duration(each * self._steps), each * 1e3)
            self._steps = 0


def duration(seconds):
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
