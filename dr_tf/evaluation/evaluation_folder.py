"""Write and read an evaluation folder: metrics.json, predictions.csv, report.html, explanations.json and charts."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

from dr_tf.console import UserError, cleaned_up_if_stopped
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.predictions_csv import write_predictions
from dr_tf.evaluation.report.charts import charts
from dr_tf.evaluation.report.page import report
from dr_tf.inference.modes import PLAIN

METRICS, EXPLANATIONS = "metrics.json", "explanations.json"
VERSION = 2  # of the keys of both


def evaluation_folder(run_dir: str | os.PathLike, dataset: str, split: str, mode: str = PLAIN) -> pathlib.Path:
    """Return RUN/evaluation/DATASET-SPLIT, followed by -MODE where the mode is not plain."""
    name = f"{dataset.replace('/', '-')}-{split}"
    return pathlib.Path(run_dir) / "evaluation" / (name if mode == PLAIN else f"{name}-{mode}")


def write_evaluation(
    folder: str | os.PathLike, predictions: Predictions, metrics: dict[str, Any], **report_options: Any
) -> pathlib.Path:
    """Write all files of an evaluation, and replace `folder` by them at once when all are written.

    Args:
        folder: of the evaluation.
        predictions: for predictions.csv.
        metrics: what `measure` returned, for metrics.json.
        **report_options: keyword arguments of `report`.

    Returns:
        The folder.
    """
    folder = pathlib.Path(folder)
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=parent, prefix=".evaluation-") as temporary,
        _restored_if_stopped(folder, temporary),
    ):
        new = pathlib.Path(temporary) / "new"
        new.mkdir()
        _write_files(new, predictions, metrics, report_options)
        if folder.is_dir():
            os.replace(folder, pathlib.Path(temporary) / "old")
        os.replace(new, folder)
    return folder


def _restored_if_stopped(folder: pathlib.Path, temporary: str) -> contextlib.AbstractContextManager[None]:
    """Put the old evaluation back if a signal comes between the two renames, and remove what is unfinished."""

    def restore() -> None:
        old = pathlib.Path(temporary) / "old"
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(temporary, ignore_errors=True)

    return cleaned_up_if_stopped(restore)


def _write_files(
    folder: pathlib.Path, predictions: Predictions, metrics: dict[str, Any], report_options: dict[str, Any]
) -> None:
    write_predictions(folder / "predictions.csv", predictions)
    _write_json(folder / METRICS, metrics)
    if report_options.get("explanations"):
        _write_json(folder / EXPLANATIONS, report_options["explanations"])
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
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    version = content.get("version", 1) if isinstance(content, dict) else 1
    if version != VERSION:
        raise UserError(f"{path} is of version {version}, this program reads version {VERSION}; evaluate the run again")
    return content
