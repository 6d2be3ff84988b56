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

_OUTCOME = "outcome.json"


@dataclasses.dataclass(frozen=True)
class Grid:
    """`parameters` maps names of config parameters to the values to try, every combination of them.

    A value that is to be built is written as text: 'train.sampling': ['@shuffled()', '@weighted()']. `objective` is a figure of the validation split and its better direction; None: what the experiment selects by.
    """

    parameters: dict
    objective: tuple[str, str] | None = None

    def trials(self):
        for values in itertools.product(*self.parameters.values()):
            yield dict(zip(self.parameters, values, strict=True))


def run_grid(grid, *, run_dir, run_trial, objective):
    """`run_trial(values, folder)` trains one trial and returns its history. Returns the rows of the table of trials.

    A trial that failed is recorded and tried again when the grid is started again; one that is done is not repeated.
    """
    objective = tuple(grid.objective or objective)
    name = objective[0]
    if not name.startswith("val_"):
        raise UserError(f"grid.objective {name!r} is not a figure of the validation split; these begin with val_")
    _announce(run_dir / "tensorboard", grid, name)
    rows = [
        _trial(number, values, run_dir=run_dir, run_trial=run_trial, objective=objective)
        for number, values in enumerate(grid.trials())
    ]
    files.write_text(run_dir / "trials.md", table(rows, objective) + "\n")
    logging.info("trials, the best first (tensorboard --logdir %s shows more):\n%s", run_dir, table(rows, objective))
    return rows


def _trial(number, values, *, run_dir, run_trial, objective):
    folder = run_dir / f"trial-{number:03}"
    row = {"trial": number, **values}
    kept = _kept(folder, values)
    if kept and "error" not in kept:
        return row | kept
    logging.info("trial %d: %s", number, ", ".join(as_gin(values)))
    try:
        result = _best(run_trial(values, folder), objective)
        _show(folder, values, result, objective[0])
    except Exception as error:  # whatever one combination breaks, the others run
        result = {"error": (str(error) or repr(error)).splitlines()[0]}
        logging.error("trial %d failed: %s", number, result["error"])
    files.write_json(folder / _OUTCOME, {"values": values, **result})
    return row | result


def _kept(folder, values):
    """What came of a trial before, {} if it was not run to its end."""
    if not (folder / _OUTCOME).exists():
        return {}
    kept = json.loads((folder / _OUTCOME).read_text(encoding="utf-8"))
    if (others := kept.pop("values")) != json.loads(json.dumps(values)):
        raise UserError(f"{folder} is a trial of another grid ({', '.join(as_gin(others))}); use another --run_dir")
    return kept


def _best(history, objective):
    if objective[0] not in history[0]:
        known = ", ".join(name for name in history[0] if name.startswith("val_"))
        raise UserError(f"there is no figure {objective[0]!r}; known: {known}")
    best = best_epoch(history, objective)
    return {objective[0]: history[best][objective[0]], "epoch": best + 1}


def table(rows, objective):
    """The trials as a Markdown table, the best first, the failed ones last."""
    name, direction = objective
    sign = -1 if direction == "max" else 1
    rows = sorted(rows, key=lambda row: ("error" in row, sign * row.get(name, 0)))
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(_cell(row.get(c, "")) for c in columns) + " |" for row in rows])


def as_gin(values):
    """One binding a parameter; what gin is to build stands in the grid as text."""
    built = ("@", "%")
    return [f"{k} = {v if isinstance(v, str) and v.startswith(built) else repr(v)}" for k, v in values.items()]


def _cell(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _announce(folder, grid, name):
    domains = {parameter: hparams.Discrete(_comparable(values)) for parameter, values in grid.parameters.items()}
    with _writing(folder):
        hparams.hparams_config(
            hparams=[hparams.HParam(parameter, domain) for parameter, domain in domains.items()],
            metrics=[hparams.Metric(name), hparams.Metric("epoch", display_name="at epoch")],
        )


def _show(folder, values, result, name):
    """Beside the trial's own curves."""
    with _writing(folder / "tensorboard"):
        hparams.hparams({n: _comparable([value])[0] for n, value in values.items()}, trial_id=folder.name)
        for figure in (name, "epoch"):
            tf.summary.scalar(figure, result[figure], step=result["epoch"] - 1)  # as Keras counts


@contextlib.contextmanager
def _writing(folder):
    with contextlib.closing(tf.summary.create_file_writer(str(folder))) as writer, writer.as_default():
        yield


def _comparable(values):
    """The HParams tab sorts and filters values of one kind: numbers, truths or text."""
    if all(isinstance(value, bool) for value in values) or all(isinstance(value, str) for value in values):
        return list(values)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return [float(value) if numbers else str(value) for value in values]
