"""Decide on many cases on Apache Beam, with Beam's own RunInference around a Predictor.

The cases are divided into shards, and each shard becomes one file. A shard is one element of the pipeline and is written as soon as
it is decided, so a run that was stopped continues with the shards that are missing. Shards hold whole batches of the network:
their rows are those of a local run, bit for bit. Every worker must reach the model, the photographs and the folder of the
shards under the same paths.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.inference.case import Case, Frames, ImageSource
from dr_tf.inference.formats import FORMATS
from dr_tf.inference.predictor import Predictor

CASES, SETTINGS = "cases.jsonl", "settings.json"
ENDINGS = {"csv": "csv", "json": "jsonl"}


class Runner(Protocol):
    """Where a pipeline runs."""

    @property
    def name(self) -> str:
        """The name of the runner."""

    def pipeline(self) -> contextlib.AbstractContextManager[beam.Pipeline]:
        """Return a context manager with a pipeline, which runs when it ends."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What determines the content of the shards.

    Attributes:
        run_dir: the folder of the model.
        mode: the prediction mode.
        point: the operating point; None for the run's own.
        prevalence: the prevalence to which probabilities are moved; None for the run's own.
        format: "csv" or "json".
        batch_size: the number of cases that the network processes at a time.
        shard_size: the number of cases in a shard, a multiple of `batch_size`.
    """

    run_dir: str
    mode: str
    point: str | None
    prevalence: float | None
    format: str
    batch_size: int
    shard_size: int

    def __post_init__(self) -> None:
        if self.format not in ENDINGS:
            raise UserError(f"shards are written as {' or '.join(ENDINGS)}, not as {self.format}")
        if self.shard_size < 1 or self.shard_size % self.batch_size:
            raise UserError(f"a shard of {self.shard_size} cases does not hold whole batches of {self.batch_size}")


class PredictorHandler(ModelHandler[int, PredictionResult, Predictor]):
    """Decides on shards by a Predictor, whatever network its run holds.

    Args:
        folder: of the shards.
        settings: of the run.
    """

    def __init__(self, folder: str, settings: Settings):
        self._folder, self._settings = folder, settings

    def load_model(self) -> Predictor:
        """Load the Predictor, once in each worker process."""
        predictor = Predictor.from_run(self._settings.run_dir, self._settings.mode)
        predictor.change_rule(point=self._settings.point, prevalence=self._settings.prevalence)
        return predictor

    def run_inference(
        self, batch: Sequence[int], model: Predictor, inference_args: Mapping[str, Any] | None = None
    ) -> Iterator[PredictionResult]:
        """Yield (number of the shard, its lines) for each shard of a batch."""
        for number in batch:
            cases = _read_cases(pathlib.Path(self._folder), number, self._settings.shard_size)
            decisions = model.decisions(cases, batch_size=self._settings.batch_size)
            yield PredictionResult(number, list(FORMATS[self._settings.format](decisions, model.rule)))

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """Return that a batch is one shard: the Predictor makes the batches of the network."""
        return {"min_batch_size": 1, "max_batch_size": 1}

    def get_metrics_namespace(self) -> str:
        """Return the namespace of Beam's metrics."""
        return "dr_tf"


def decide_on_beam(
    cases: Iterable[Case], folder: pathlib.Path, settings: Settings, runner: Runner
) -> list[pathlib.Path]:
    """Decide on cases and write the shards that are missing.

    Args:
        cases: their images are paths.
        folder: receives the shards. It belongs to one set of cases and one set of settings.
        settings: of the run.
        runner: where the pipeline runs.

    Returns:
        The files of all shards, in order.

    Raises:
        UserError: the folder has shards of other cases or settings, the pipeline failed, or its workers wrote elsewhere.
    """
    count = _write_once(folder, settings, cases)
    shards = shard_paths(folder, settings, count)
    missing = [number for number, path in enumerate(shards) if not path.exists()]
    if missing:
        with runner.pipeline() as pipeline:
            _ = (
                pipeline
                | "shards" >> beam.Create(missing)
                | "distribute" >> beam.Reshuffle()
                | "decide" >> RunInference(PredictorHandler(str(folder), settings))
                | "write" >> beam.Map(_write_shard, [str(path) for path in shards])
            )
    if absent := [path for path in shards if not path.exists()]:
        problem = f"the workers of {runner.name} left {len(shards) - len(absent)} of {len(shards)} shards in {folder}"
        raise UserError(f"{problem}: every worker must reach this folder under the same path")
    return shards


def shard_paths(folder: pathlib.Path, settings: Settings, count: int) -> list[pathlib.Path]:
    """Return the files of the shards of so many cases."""
    total = -(-count // settings.shard_size)
    ending = ENDINGS[settings.format]
    return [folder / f"decisions-{number:05d}-of-{total:05d}.{ending}" for number in range(total)]


def read_actions(shards: Iterable[pathlib.Path]) -> Iterator[str]:
    """Yield the action of each decision in shards."""
    for path in shards:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, file)
            for row in rows:
                yield row["action"]


def _write_shard(result: PredictionResult, paths: Sequence[str]) -> None:
    files.write_text(paths[result.example], "".join(f"{line}\n" for line in result.inference))


def _write_once(folder: pathlib.Path, settings: Settings, cases: Iterable[Case]) -> int:
    """Write the settings and the cases beside the shards, and return the number of cases.

    The shards of an earlier call are only kept if it had the same ones.
    """
    lines = [_case_line(case) for case in cases]
    text, stated = "".join(f"{line}\n" for line in lines), dataclasses.asdict(settings)
    try:
        if (folder / SETTINGS).exists():
            before = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            if before != stated or (folder / CASES).read_text(encoding="utf-8") != text:
                raise UserError(
                    f"{folder} holds decisions on other photographs or with other settings; name another folder"
                )
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} cannot be continued: {error}") from error
    files.write_text(folder / CASES, text)
    files.write_json(folder / SETTINGS, stated)
    return len(lines)


def _case_line(case: Case) -> str:
    """A line of JSON. The paths are absolute, because workers start in another folder."""
    images = {eye: list(map(_as_json, of_eye)) for eye, of_eye in case.images.items()}
    return json.dumps([case.name, images, case.age, case.sex])


def _as_json(image: Any) -> str | list:
    path = os.path.abspath(image)
    return [path, image.numbers] if isinstance(image, Frames) else path


def _from_json(image: str | list) -> ImageSource:
    return image if isinstance(image, str) else Frames(image[0], tuple(image[1]))


def _read_cases(folder: pathlib.Path, number: int, shard_size: int) -> list[Case]:
    with open(folder / CASES, encoding="utf-8") as file:
        lines = list(itertools.islice(file, number * shard_size, (number + 1) * shard_size))
    return [
        Case(name, {eye: tuple(map(_from_json, found)) for eye, found in images.items()}, age, sex)
        for name, images, age, sex in map(json.loads, lines)
    ]
