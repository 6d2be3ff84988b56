"""Cropping as work of Apache Beam: photographs become crops in files that wait for their splits.

Splits are known only when everything was cropped and audited, so a build is two pipelines. The first leaves, below one
folder, what the caller needs of each photograph, and its pixels. Every worker must see that folder, and the photographs,
under the same path.
"""

import base64
import functools
import pickle

import apache_beam as beam

from dr_tf.console import UserError
from tfrecords_builder.crops import Rejection, crop_sample, died, without_pixels
from tfrecords_builder.workers import Apart

PIXELS = "pixels"  # files of (image_id, (JPEG, masks))


def crop_on_beam(samples, options, folder, runner):
    """Yields the Crop, without its pixels, or the Rejection of each sample, in order."""
    folder.mkdir(parents=True)
    write_lines(folder / "samples", enumerate(samples))
    with runner.pipeline() as pipeline:
        crops = pipeline | "photographs" >> read_lines(folder / "samples") | "crop" >> beam.ParDo(_Crops(options))
        _ = crops | "without pixels" >> beam.MapTuple(_without_pixels) | "crops" >> _text(folder / "crops")
        _ = crops | "pixels alone" >> beam.FlatMapTuple(_pixels) | "pixels" >> _text(folder / PIXELS)
    count = 0
    for result in _in_order(folder.glob("crops-*")):
        count += 1
        yield result
    if count != len(samples):
        said = f"the workers of {runner.name} left {count} of {len(samples)} results below {folder}"
        raise UserError(f"{said}: every worker must see it under this path")


class _Crops(beam.DoFn):
    """In a process apart: a photograph may kill it."""

    def __init__(self, options):
        self._options = options

    def setup(self):
        self._crop = Apart(functools.partial(crop_sample, options=self._options), on_death=died)

    def process(self, element):
        index, sample = element
        yield index, self._crop(sample)

    def teardown(self):
        self._crop.close()


def _without_pixels(index, result):
    return to_line(index, result if isinstance(result, Rejection) else without_pixels(result))


def _pixels(index, result):
    if not isinstance(result, Rejection):
        yield to_line(index, (result.sample.image_id, (result.jpeg, result.masks)))


def _text(path):
    # Not TFRecords: Beam writes those only where a library for their checksums is installed, too.
    return beam.io.WriteToText(str(path), coder=beam.coders.BytesCoder())


def to_line(index, value):
    return b"%d %s" % (index, base64.b64encode(pickle.dumps(value)))


def from_line(line):
    index, _, value = line.partition(b" ")
    return int(index), pickle.loads(base64.b64decode(value))  # a build wrote it, below its own folder


def write_lines(path, numbered):
    """A file that workers read in parts: a listing of a hundred thousand photographs is too long for a job's graph."""
    with open(path, "wb") as file:
        file.writelines(to_line(index, value) + b"\n" for index, value in numbered)


@beam.ptransform_fn
def read_lines(pipeline, path):
    """(index, value) of each line of such a file, spread over the workers."""
    lines = pipeline | beam.io.ReadFromText(str(path), coder=beam.coders.BytesCoder())
    return lines | beam.Map(from_line) | beam.Reshuffle()


def _in_order(paths):
    """The values of such files, by index, without holding them all in memory."""
    places = []
    for path in sorted(paths):
        with open(path, "rb") as file:
            start = 0
            for line in file:
                places.append((int(line.partition(b" ")[0]), path, start))
                start += len(line)
    for _, path, start in sorted(places):
        with open(path, "rb") as file:
            file.seek(start)
            yield from_line(file.readline())[1]
