"""Grid search over config parameters: one run per combination, compared by a validation metric and shown in TensorBoard."""

import contextlib
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import tensorflow as tf
from absl import logging
from tensorboard.plugins.hparams import api as hparams

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.training.history import History, Monitor, best_epoch

_OUTCOME = "outcome.json"


@dataclasses.dataclass(frozen=True)
class Grid:
    """Grid of config parameters. A config sets its attributes as `grid.NAME`.

    Attributes:
        parameters: {name of a config parameter: values to try}; every combination is a trial. Objects that gin builds
            are written as text: 'train.sampling': ['@shuffled()', '@weighted()'].
        objective: (metric of the validation split, "max" or "min") that compares the trials; by default the metric that
            selects the best epoch.
    """

    parameters: dict[str, Sequence[Any]]
    objective: tuple[str, Literal["max", "min"]] | None = None

    def trials(self) -> Iterator[dict[str, Any]]:
        """Yield {parameter: value} of every combination."""
        for values in itertools.product(*self.parameters.values()):
            yield dict(zip(self.parameters, values, strict=True))


def run_grid(
    grid: Grid,
    *,
    run_dir: pathlib.Path,
    run_trial: Callable[[Mapping[str, Any], pathlib.Path], History],
    objective: Monitor,
) -> list[dict[str, Any]]:
    """Run all trials of a grid that are not finished yet.

    Args:
        grid: the grid.
        run_dir: folder of all trials.
        run_trial: function that trains one trial into a folder and returns its history.
        objective: (metric, direction) that compares the trials if the grid sets none.

    Returns:
        A row per trial: its values, and the objective and epoch, or the error. A failed trial is recorded and tried again
        in the next call.

    Raises:
        UserError: the objective is not a metric of the validation split, or the folder holds another grid.
    """
    metric, direction = grid.objective or objective
    if not metric.startswith("val_"):
        raise UserError(
            f"grid.objective {metric!r} is not a metric of the validation split; their names begin with val_"
        )
    _write_hparams_config(run_dir / "tensorboard", grid, metric)
    rows = [
        _run_or_read_trial(number, values, run_dir=run_dir, run_trial=run_trial, objective=(metric, direction))
        for number, values in enumerate(grid.trials())
    ]
    markdown = trials_table(rows, (metric, direction))
    files.write_text(run_dir / "trials.md", markdown + "\n")
    logging.info("trials, the best first (for more: tensorboard --logdir %s):\n%s", run_dir, markdown)
    return rows


def _run_or_read_trial(number, values, *, run_dir, run_trial, objective):
    folder = run_dir / f"trial-{number:03}"
    row = {"trial": number, **values}
    outcome = _read_outcome(folder, values)
    if outcome and "error" not in outcome:
        return row | outcome
    logging.info("trial %d: %s", number, ", ".join(as_gin(values)))
    try:
        result = _best(run_trial(values, folder), objective)
        _write_hparams(folder, values, result, objective[0])
    except Exception as error:  # one failed combination must not stop the others
        result = {"error": (str(error) or repr(error)).splitlines()[0]}
        logging.error("trial %d failed: %s", number, result["error"])
    files.write_json(folder / _OUTCOME, {"values": values, **result})
    return row | result


def _read_outcome(folder, values):
    """The stored outcome of a trial, {} if it has none."""
    if not (folder / _OUTCOME).exists():
        return {}
    outcome = json.loads((folder / _OUTCOME).read_text(encoding="utf-8"))
    if (stored := outcome.pop("values")) != json.loads(json.dumps(values)):
        raise UserError(f"{folder} is a trial of another grid ({', '.join(as_gin(stored))}); use another --run_dir")
    return outcome


def _best(history, objective):
    metric, _ = objective
    if metric not in history[0]:
        known = ", ".join(name for name in history[0] if name.startswith("val_"))
        raise UserError(f"unknown grid.objective {metric!r}; known: {known}")
    best = best_epoch(history, objective)
    return {metric: history[best][metric], "epoch": best + 1}


def trials_table(rows: Sequence[Mapping[str, Any]], objective: Monitor) -> str:
    """Return the trials as a Markdown table, the best first and failed ones last."""
    metric, direction = objective
    sign = -1 if direction == "max" else 1
    rows = sorted(rows, key=lambda row: ("error" in row, sign * row.get(metric, 0)))
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(_cell(row.get(c, "")) for c in columns) + " |" for row in rows])


def as_gin(values: Mapping[str, Any]) -> list[str]:
    """Return a gin binding for each parameter. Text that begins with @ or % is a gin reference."""
    references = ("@", "%")
    return [f"{k} = {v if isinstance(v, str) and v.startswith(references) else repr(v)}" for k, v in values.items()]


def _cell(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_hparams_config(folder, grid, metric):
    domains = {parameter: hparams.Discrete(_of_one_type(values)) for parameter, values in grid.parameters.items()}
    with _summary_writer(folder):
        hparams.hparams_config(
            hparams=[hparams.HParam(parameter, domain) for parameter, domain in domains.items()],
            metrics=[hparams.Metric(metric), hparams.Metric("epoch", display_name="at epoch")],
        )


def _write_hparams(folder, values, result, metric):
    """Write the hyperparameters and the result beside the trial's learning curves."""
    with _summary_writer(folder / "tensorboard"):
        hparams.hparams({name: _of_one_type([value])[0] for name, value in values.items()}, trial_id=folder.name)
        for name in (metric, "epoch"):
            tf.summary.scalar(name, result[name], step=result["epoch"] - 1)  # Keras counts epochs from 0


@contextlib.contextmanager
def _summary_writer(folder):
    with contextlib.closing(tf.summary.create_file_writer(str(folder))) as writer, writer.as_default():
        yield


def _of_one_type(values):
    """Values of one type, as the HParams tab sorts and filters them: numbers, booleans or text."""
    if all(isinstance(value, bool) for value in values) or all(isinstance(value, str) for value in values):
        return list(values)
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return [float(value) if are_numbers else str(value) for value in values]
