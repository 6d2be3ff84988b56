"""The test log counts the evaluations of each split: a test split that choices are based on is no longer a test."""

import contextlib
import datetime
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import logging

from dr_tf import files

TEST_LOG = "test_evaluations.jsonl"
_FORMER_TEST_LOG = "looks.jsonl"


@contextlib.contextmanager
def log_test_evaluation(run_dir: str | os.PathLike, dataset: str, split: str) -> Iterator[int]:
    """Append an evaluation to the run's test log, and warn of a repeated evaluation of a test split.

    The `with` block writes the evaluation. If it was killed before its end, nobody saw a result, and the next evaluation of
    the split takes its place in the log. A run with the log's former name, looks.jsonl, has it renamed, so that the count
    continues.

    Yields:
        The number of evaluations of this split of this data set, this one included.
    """
    path, former = pathlib.Path(run_dir) / TEST_LOG, pathlib.Path(run_dir) / _FORMER_TEST_LOG
    if former.exists() and not path.exists():
        former.rename(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    entries = [entry for entry in map(json.loads, lines) if not _is_unfinished(entry, dataset, split)]
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    entry = {"time": now, "dataset": dataset, "split": split, "finished": False}
    entries.append(entry)
    _write(path, entries)
    count = sum(logged["dataset"] == dataset and logged["split"] == split for logged in entries)
    if split == "test" and count > 1:
        logging.warning(
            "this is evaluation %d of the test split of %s; make choices by --split validation or --split folds",
            count,
            dataset,
        )
    yield count
    entry["finished"] = True
    _write(path, entries)


def _is_unfinished(entry: dict[str, Any], dataset: str, split: str) -> bool:
    return entry["dataset"] == dataset and entry["split"] == split and not entry.get("finished", True)


def _write(path: pathlib.Path, entries: list[dict[str, Any]]) -> None:
    files.write_text(path, "".join(json.dumps(entry) + "\n" for entry in entries))


def repeated_test_caveat(split: str, count: int) -> list[str]:
    """Return a caveat where a test split was evaluated `count` > 1 times."""
    if split != "test" or count < 2:
        return []
    return [
        f"This is evaluation {count} of this test split: if any choice was based on it, its metrics are optimistic."
    ]
