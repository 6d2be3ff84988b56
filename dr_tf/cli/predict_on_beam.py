"""`dr_tf predict --beam_runner`: the decisions on many photographs as shards, made on Apache Beam."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from dr_tf.cli.predict import cases_of, load, mode_of
from dr_tf.console import UserError
from dr_tf.runtime import starting_tensorflow
from dr_tf.safe_names import printable


def run_on_beam(flags: argparse.Namespace, paths: Sequence[pathlib.Path], table: dict | None) -> dict[str, int]:
    """Write the decisions as shards, and return the number of cases by action.

    Args:
        flags: of `dr_tf predict`.
        paths: the photographs.
        table: of patients, for a model of both eyes.

    Raises:
        UserError: a flag does not go with Beam, or Beam, the run or the folder cannot be used.
    """
    from tfrecords_builder.beam_runner import parse_beam_flags

    with starting_tensorflow():  # Beam imports libraries that print messages at start-up too
        runner = parse_beam_flags(flags.beam_runner, flags.beam_option)
    assert runner is not None
    if flags.dicom_sr or flags.dicom_pdf:
        raise UserError("--dicom_sr and --dicom_pdf do not go with --beam_runner")
    predictor = load(flags)  # a mistake in the flags or the run is told before the pipeline starts
    paired = predictor.run.network.paired
    if (flags.patients or table is not None) and not paired:
        raise UserError("--patients does not go with --beam_runner: the eyes of a patient may be in two shards")
    from dr_tf.on_beam import Settings, decide_on_beam, read_actions

    settings = Settings(
        run_dir=str(flags.run_dir.resolve()),
        mode=mode_of(flags),
        point=flags.point,
        prevalence=flags.prevalence,
        format="csv" if flags.format == "table" else flags.format,
        batch_size=flags.batch_size,
        shard_size=flags.shard_size,
    )
    cases = cases_of(paths, table, paired)
    shards = decide_on_beam(cases, flags.output.absolute(), settings, runner)
    counts = dict.fromkeys(("refer", "clear", "retake"), 0)
    for action in read_actions(shards):
        counts[action] += 1
    print(f"{len(cases)} decisions in {len(shards)} shards: {printable(flags.output)}")
    return counts
