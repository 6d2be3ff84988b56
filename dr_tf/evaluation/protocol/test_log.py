"""Every look at a split is written down in the run: a test split that is looked at often is no longer a test."""

import datetime
import json
import pathlib

from absl import logging

from dr_tf import files

TEST_LOG = "test_evaluations.jsonl"


def log_test_evaluation(run_dir, dataset, split):
    """Returns how many looks at this split there were, this one included."""
    path = pathlib.Path(run_dir) / TEST_LOG
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    lines.append(json.dumps({"time": now, "dataset": dataset, "split": split}))
    files.write_text(path, "\n".join(lines) + "\n")
    looks = sum((look := json.loads(line))["dataset"] == dataset and look["split"] == split for line in lines)
    if split == "test" and looks > 1:
        logging.warning(
            "this is look %d at the test split of %s; choose by --split validation or by --split folds", looks, dataset
        )
    return looks


def repeated_test_caveat(split, looks):
    """What a reader of the figures has to be told, if anything."""
    if split != "test" or looks < 2:
        return []
    return [f"Look {looks} at this test split: figures that something was chosen by are too good."]
