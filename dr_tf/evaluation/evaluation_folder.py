"""Write and read an evaluation folder: metrics.json, predictions.csv, sources.csv, report.html, explanations.json, charts."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dr_tf import files
from dr_tf.console import UserError, cleaned_up_if_stopped
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.predictions_csv import write_predictions
from dr_tf.evaluation.report.charts import charts
from dr_tf.evaluation.report.cross_site import SOURCES_CSV, write_sources_csv
from dr_tf.evaluation.report.page import report, scorecard_page
from dr_tf.inference.modes import PLAIN

METRICS, EXPLANATIONS = "metrics.json", "explanations.json"
VERSION = 2  # of the keys of both
_TEMPORARY = ".evaluation-"


def evaluation_folder(run_dir: str | os.PathLike, dataset: str, split: str, mode: str = PLAIN) -> pathlib.Path:
    """Return RUN/evaluation/DATASET-SPLIT, followed by -MODE where the mode is not plain."""
    name = f"{dataset.replace('/', '-')}-{split}"
    return pathlib.Path(run_dir) / "evaluation" / (name if mode == PLAIN else f"{name}-{mode}")


def write_evaluation(
    folder: str | os.PathLike, predictions: Predictions, metrics: dict[str, Any], **report_options: Any
) -> pathlib.Path:
    """Write all files of an evaluation, and replace `folder` by them at once when all are written.

    A kill at any moment leaves the old or the new evaluation. What it leaves besides is removed by the next call.

    Args:
        folder: of the evaluation.
        predictions: for predictions.csv.
        metrics: what `measure` returned, for metrics.json.
        **report_options: keyword arguments of `report`.

    Returns:
        The folder.
    """
    return _replace_folder(folder, lambda new: _write_files(new, predictions, metrics, report_options))


def write_scorecard(
    folder: str | os.PathLike, scorecard: dict[str, Any], *, run: str, caveats: Sequence[str] = ()
) -> pathlib.Path:
    """Write the evaluation of maps alone, where no label is known: explanations.json and report.html.

    Args:
        folder: of the evaluation, replaced as `write_evaluation` does.
        scorecard: what `score_explanations` returned.
        run: name of the run.
        caveats: what a reader of the scores has to know about this set.

    Returns:
        The folder.
    """

    def write(new):
        _write_json(new / EXPLANATIONS, scorecard)
        (new / "report.html").write_text(scorecard_page(scorecard, run=run, caveats=caveats), encoding="utf-8")

    return _replace_folder(folder, write)


def _replace_folder(folder: str | os.PathLike, write: Callable[[pathlib.Path], object]) -> pathlib.Path:
    folder = pathlib.Path(folder)
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with (
        _only_writer(parent),
        tempfile.TemporaryDirectory(dir=parent, prefix=_TEMPORARY) as temporary,
        cleaned_up_if_stopped(lambda: shutil.rmtree(temporary, ignore_errors=True)),
    ):
        new = pathlib.Path(temporary) / "new"
        new.mkdir()
        write(new)
        files.replace(new, folder)
    return folder


@contextlib.contextmanager
def _only_writer(parent: pathlib.Path) -> Iterator[None]:
    """Wait for other evaluations that write in this folder, and tidy up after those that were killed."""
    descriptor = os.open(parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _tidy_up(parent)
        yield
    finally:
        os.close(descriptor)


def _tidy_up(parent: pathlib.Path) -> None:
    for temporary in parent.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(temporary, ignore_errors=True)
    for replaced in parent.glob(f"{files.REPLACED}*"):
        files.restore(parent / replaced.name.removeprefix(files.REPLACED))
        shutil.rmtree(replaced, ignore_errors=True)


def _write_files(
    folder: pathlib.Path, predictions: Predictions, metrics: dict[str, Any], report_options: dict[str, Any]
) -> None:
    write_predictions(folder / "predictions.csv", predictions)
    _write_json(folder / METRICS, metrics)
    if report_options.get("explanations"):
        _write_json(folder / EXPLANATIONS, report_options["explanations"])
    if metrics.get("sources"):
        write_sources_csv(folder / SOURCES_CSV, metrics["sources"])
    (folder / "report.html").write_text(report(predictions, metrics, **report_options), encoding="utf-8")
    for name, (figure, _) in charts(predictions, metrics).items():
        figure.savefig(folder / f"{name}.png", dpi=144)


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"version": VERSION} | content, file, indent=1, allow_nan=False, ensure_ascii=False)
        file.write("\n")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Read a metrics.json or explanations.json.

    Raises:
        UserError: if it cannot be read, or was written by an earlier version.
    """
    files.restore(pathlib.Path(path).parent)
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    version = content.get("version", 1) if isinstance(content, dict) else 1
    if version != VERSION:
        raise UserError(f"{path} is of version {version}, this program reads version {VERSION}; evaluate the run again")
    return content
