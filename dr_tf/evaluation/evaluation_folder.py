"""The folder of an evaluation: metrics.json, predictions.csv, report.html, explanations.json, and charts."""

import json
import os
import pathlib
import tempfile

from dr_tf.evaluation.predictions_csv import write_predictions
from dr_tf.evaluation.report.charts import charts
from dr_tf.evaluation.report.page import report
from dr_tf.inference.modes import PLAIN

EXPLANATIONS = "explanations.json"


def folder_of(run_dir, dataset, split, mode=PLAIN):
    """RUN/evaluation/DATASET-SPLIT, with -MODE behind where that is not plain."""
    name = f"{dataset.replace('/', '-')}-{split}"
    return pathlib.Path(run_dir) / "evaluation" / (name if mode == PLAIN else f"{name}-{mode}")


def write_evaluation(folder, predictions, metrics, **shown):
    """Replaces `folder` as a whole, once everything has been written: nobody finds half an evaluation.

    `shown`: what else `report` takes.
    """
    parent = os.path.dirname(os.path.abspath(folder))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".evaluation-") as held:
        new = os.path.join(held, "new")
        os.mkdir(new)
        _fill(new, predictions, metrics, shown)
        if os.path.isdir(folder):
            os.replace(folder, os.path.join(held, "old"))
        os.replace(new, folder)
    return folder


def _fill(folder, predictions, metrics, shown):
    write_predictions(os.path.join(folder, "predictions.csv"), predictions)
    _write_json(os.path.join(folder, "metrics.json"), metrics)
    if shown.get("explanations"):
        _write_json(os.path.join(folder, EXPLANATIONS), shown["explanations"])
    with open(os.path.join(folder, "report.html"), "w", encoding="utf-8") as file:
        file.write(report(predictions, metrics, **shown))
    for name, (figure, _) in charts(predictions, metrics).items():
        figure.savefig(os.path.join(folder, f"{name}.png"), dpi=144)


def _write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, allow_nan=False, ensure_ascii=False)
        file.write("\n")
