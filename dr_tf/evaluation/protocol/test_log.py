"""The test log counts the evaluations of each split: a test split that choices are based on is no longer a test."""

import datetime
import json
import os
import pathlib

from absl import logging

from dr_tf import files

TEST_LOG = "test_evaluations.jsonl"
_FORMER_TEST_LOG = "looks.jsonl"


def log_test_evaluation(run_dir: str | os.PathLike, dataset: str, split: str) -> int:
    """Append an evaluation to the run's test log, and warn of a repeated evaluation of a test split.

    A run with the log's former name, looks.jsonl, has it renamed, so that the count continues.

    Returns:
        The number of evaluations of this split of this data set, this one included.
    """
    path, former = pathlib.Path(run_dir) / TEST_LOG, pathlib.Path(run_dir) / _FORMER_TEST_LOG
    if former.exists() and not path.exists():
        former.rename(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    lines.append(json.dumps({"time": now, "dataset": dataset, "split": split}))
    files.write_text(path, "\n".join(lines) + "\n")
    entries = map(json.loads, lines)
    count = sum(entry["dataset"] == dataset and entry["split"] == split for entry in entries)
    if split == "test" and count > 1:
        logging.warning(
            "this is evaluation %d of the test split of %s; make choices by --split validation or --split folds",
            count,
            dataset,
        )
    return count


def repeated_test_caveat(split: str, count: int) -> list[str]:
    """Return a caveat where a test split was evaluated `count` > 1 times."""
    if split != "test" or count < 2:
        return []
    return [
        f"This is evaluation {count} of this test split: if any choice was based on it, its metrics are optimistic."
    ]
