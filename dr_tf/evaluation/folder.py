"""The folder of an evaluation: metrics.json, predictions.csv, report.html and the charts as pictures."""

import json
import os
import pathlib
import tempfile

from dr_tf.evaluation.report.charts import charts
from dr_tf.evaluation.report.page import report
from dr_tf.evaluation.table import write_predictions


def folder_of(run_dir, dataset, split):
    """RUN/evaluation/DATASET-SPLIT."""
    return pathlib.Path(run_dir) / "evaluation" / f"{dataset.replace('/', '-')}-{split}"


def write_evaluation(folder, predictions, metrics, *, card=None, photographs=None):
    """Replaces `folder` as a whole, once everything has been written: nobody finds half an evaluation."""
    parent = os.path.dirname(os.path.abspath(folder))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".evaluation-") as held:
        new = os.path.join(held, "new")
        os.mkdir(new)
        _fill(new, predictions, metrics, card, photographs)
        if os.path.isdir(folder):
            os.replace(folder, os.path.join(held, "old"))
        os.replace(new, folder)
    return folder


def _fill(folder, predictions, metrics, card, photographs):
    write_predictions(os.path.join(folder, "predictions.csv"), predictions)
    with open(os.path.join(folder, "metrics.json"), "w", encoding="utf-8") as file:
        json.dump(metrics, file, indent=1, allow_nan=False, ensure_ascii=False)
        file.write("\n")
    with open(os.path.join(folder, "report.html"), "w", encoding="utf-8") as file:
        file.write(report(predictions, metrics, card=card, photographs=photographs))
    for name, (figure, _) in charts(predictions, metrics).items():
        figure.savefig(os.path.join(folder, f"{name}.png"), dpi=144)
