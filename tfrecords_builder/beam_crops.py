"""Crop images on Apache Beam, as the first of two pipelines of a build.

The splits are known only after all images are cropped and audited, so cropping and writing are separate pipelines. This
one leaves its results in files below one folder: the crops without their pixels, which the build needs for the audit
and the splits, and the pixels, which the second pipeline reads. Every worker must reach that folder, and the images,
under the same path.
"""

from __future__ import annotations

import base64
import functools
import pathlib
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from dr_tf.console import UserError
from tfrecords_builder.beam_runner import BeamRunner
from tfrecords_builder.crops import Crop, Rejection, crop_sample, drop_pixels, reject_crashed
from tfrecords_builder.plan import Options
from tfrecords_builder.samples import Sample
from tfrecords_builder.workers import IsolatedWorker

PIXELS = "pixels"  # prefix of the files of (image_id, (JPEG, masks))


def crop_on_beam(
    samples: Sequence[Sample], options: Options, folder: pathlib.Path, runner: BeamRunner
) -> Iterator[Crop | Rejection]:
    """Yield the Crop without its pixels, or the Rejection, of each sample, in order.

    Args:
        samples: The samples to crop.
        options: How an image becomes a record.
        folder: Receives the files. The second pipeline reads the pixels from it.
        runner: Where the pipeline runs.

    Raises:
        UserError: The pipeline failed, or its workers wrote to another folder.
    """
    folder.mkdir(parents=True)
    write_lines(folder / "samples", enumerate(samples))
    with runner.pipeline() as pipeline:
        crops = pipeline | "images" >> read_lines(folder / "samples") | "crop" >> beam.ParDo(_CropFn(options))
        _ = crops | "without pixels" >> beam.MapTuple(_without_pixels) | "crops" >> _write_text(folder / "crops")
        _ = crops | "pixels alone" >> beam.FlatMapTuple(_pixels) | "pixels" >> _write_text(folder / PIXELS)
    count = 0
    for result in _in_order(folder.glob("crops-*")):
        count += 1
        yield result
    if count != len(samples):
        problem = f"the workers of {runner.name} left {count} of {len(samples)} results below {folder}"
        raise UserError(f"{problem}: every worker must reach this folder under the same path")


class _CropFn(beam.DoFn):
    """Crop in an isolated process, because an image may crash it."""

    def __init__(self, options):
        self._options = options

    def setup(self):
        self._crop = IsolatedWorker(functools.partial(crop_sample, options=self._options), on_crash=reject_crashed)

    def process(self, element):
        index, sample = element
        yield index, self._crop(sample)

    def teardown(self):
        self._crop.close()


def _without_pixels(index, result):
    return encode_line(index, result if isinstance(result, Rejection) else drop_pixels(result))


def _pixels(index, result):
    if not isinstance(result, Rejection):
        yield encode_line(index, (result.sample.image_id, (result.jpeg, result.masks)))


def _write_text(path):
    # Not TFRecords: Beam writes those only if a checksum library is installed as well.
    return beam.io.WriteToText(str(path), coder=beam.coders.BytesCoder())


def encode_line(index: int, value: Any) -> bytes:
    """Encode an indexed value as a line of text, without the newline."""
    return b"%d %s" % (index, base64.b64encode(pickle.dumps(value)))


def decode_line(line: bytes) -> tuple[int, Any]:
    """Decode a line of `encode_line`. Only for files that this build wrote, because a pickle can run code."""
    index, _, value = line.partition(b" ")
    return int(index), pickle.loads(base64.b64decode(value))


def write_lines(path: pathlib.Path, indexed_values: Iterable[tuple[int, Any]]) -> None:
    """Write indexed values to a file that workers read in parts.

    A listing of a hundred thousand images is too long to be part of a pipeline's graph.
    """
    with open(path, "wb") as file:
        file.writelines(encode_line(index, value) + b"\n" for index, value in indexed_values)


@beam.ptransform_fn
def read_lines(pipeline: beam.Pipeline, path: pathlib.Path) -> beam.PCollection:
    """Read the (index, value) pairs of such files, distributed over the workers."""
    lines = pipeline | beam.io.ReadFromText(str(path), coder=beam.coders.BytesCoder())
    return lines | beam.Map(decode_line) | beam.Reshuffle()


def _in_order(paths):
    """Yield the values of such files by index, without holding all of them in memory."""
    offsets = []
    for path in sorted(paths):
        with open(path, "rb") as file:
            offset = 0
            for line in file:
                offsets.append((int(line.partition(b" ")[0]), path, offset))
                offset += len(line)
    for _, path, offset in sorted(offsets):
        with open(path, "rb") as file:
            file.seek(offset)
            yield decode_line(file.readline())[1]
