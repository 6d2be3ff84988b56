"""A grid of gin bindings: one run each, compared by a validation figure, shown in TensorBoard's HParams tab."""

import contextlib
import dataclasses
import itertools
import json

import tensorflow as tf
from absl import logging
from tensorboard.plugins.hparams import api as hparams

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.training.history import best_epoch


@dataclasses.dataclass(frozen=True)
class Grid:
    """`parameters` maps names of config parameters to the values to try, every combination of them.

    `objective` is a figure of the validation split and its better direction; None: what the experiment selects by.
    """

    parameters: dict
    objective: tuple[str, str] | None = None

    def trials(self):
        for values in itertools.product(*self.parameters.values()):
            yield dict(zip(self.parameters, values, strict=True))


def run_grid(grid, *, run_dir, run_trial, objective):
    """`run_trial(bindings, folder)` trains one trial and returns its history. Returns the rows of the table of trials.

    A trial that failed is recorded and tried again when the grid is started again; one that is done is not repeated.
    """
    name = objective[0]
    if not name.startswith("val_"):
        raise UserError(f"grid.objective {name!r} is not a figure of the validation split; these begin with val_")
    _announce(run_dir / "tensorboard", grid, name)
    rows = [
        _trial(number, values, run_dir=run_dir, run_trial=run_trial, objective=objective)
        for number, values in enumerate(grid.trials())
    ]
    files.write_text(run_dir / "trials.md", table(rows, objective) + "\n")
    return rows


def _trial(number, values, *, run_dir, run_trial, objective):
    folder = run_dir / f"trial-{number:03}"
    outcome = folder / "outcome.json"
    row = {"trial": number, **values}
    kept = json.loads(outcome.read_text(encoding="utf-8")) if outcome.exists() else {}
    if kept.pop("values", values) != values:
        raise UserError(f"{folder} is a trial of another grid ({as_text(_values(outcome))}); use another --run_dir")
    if kept and "error" not in kept:
        return row | kept
    logging.info("trial %d: %s", number, as_text(values))
    try:
        history = run_trial(values, folder)
        if objective[0] not in history[0]:
            raise UserError(f"there is no figure {objective[0]!r}; known: {', '.join(history[0])}")
        best = best_epoch(history, objective)
        result = {objective[0]: history[best][objective[0]], "epoch": best + 1}
        _show(run_dir / "tensorboard" / folder.name, values, result, objective)
    except (UserError, tf.errors.OpError, ValueError, MemoryError) as error:
        result = {"error": str(error).splitlines()[0]}
        logging.error("trial %d failed: %s", number, result["error"])
    files.write_json(outcome, {"values": values, **result})
    return row | result


def table(rows, objective):
    """The trials as a Markdown table, the best first, the failed ones last."""
    name, direction = objective
    sign = -1 if direction == "max" else 1
    rows = sorted(rows, key=lambda row: ("error" in row, sign * row.get(name, 0)))
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(_cell(row.get(c, "")) for c in columns) + " |" for row in rows])


def as_text(values):
    return ", ".join(f"{name} = {value!r}" for name, value in values.items())


def _values(outcome):
    return json.loads(outcome.read_text(encoding="utf-8"))["values"]


def _cell(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _announce(folder, grid, name):
    with tf.summary.create_file_writer(str(folder)).as_default():
        hparams.hparams_config(
            hparams=[hparams.HParam(n, hparams.Discrete(list(values))) for n, values in grid.parameters.items()],
            metrics=[hparams.Metric(name, display_name=name)],
        )


def _show(folder, values, result, objective):
    with contextlib.closing(tf.summary.create_file_writer(str(folder))) as writer, writer.as_default():
        hparams.hparams(values, trial_id=folder.name)
        tf.summary.scalar(objective[0], result[objective[0]], step=result["epoch"])
