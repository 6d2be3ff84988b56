"""Read images and labels back from finished record sets, for `python -m tfrecords_builder audit`."""

import dataclasses
import os
from collections.abc import Iterator

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from dr_tf.console import UserError
from dr_tf.fundus.geometry import Geometry
from dr_tf.grades import EYES
from tfrecords_builder.samples import Sample


@dataclasses.dataclass(frozen=True)
class RecordedImage:
    """An image of a record set: its sample, the digest of the original file, and the crop as JPEG."""

    sample: Sample
    sha256: str
    geometry: Geometry
    jpeg: bytes


def initialize_tensorflow() -> None:
    """Make TensorFlow find its devices now, so that the caller can hide the messages that it prints."""
    logging.set_verbosity(logging.ERROR)
    tf.config.list_physical_devices()
    tf.constant(0)


def read_records(folder: str | os.PathLike) -> Iterator[RecordedImage]:
    """Yield each image of a record set, with its split and labels. A paired record yields up to two images.

    Raises:
        UserError: The folder is not a record set of this builder, or cannot be read.
    """
    try:
        builder = tfds.builder_from_directory(str(folder))
        features = builder.info.features
        decoders = _skip_decoding(features)
        for split in sorted(builder.info.splits):
            for example in tfds.as_numpy(builder.as_dataset(split, decoders=decoders)):
                eyes = [example[eye] for eye in EYES if example[f"{eye}_present"]] if "left" in features else [example]
                yield from (_recorded_image(eye, split) for eye in eyes)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(f"{folder} cannot be read as a record set: {str(error).splitlines()[0]}") from None
    except KeyError as error:
        raise UserError(f"{folder} was not written by this builder: its records have no {error}") from None


def _skip_decoding(features):
    """Keep JPEGs as bytes, because worker processes decode them."""
    image = {"image": tfds.decode.SkipDecoding()}
    return dict.fromkeys(EYES, image) if "left" in features else image


def _recorded_image(example, split):
    left, top, right, bottom = (int(v) for v in example["padding"])
    width, height = (int(v) for v in example["original_size"])
    geometry = Geometry(
        width=width,
        height=height,
        circle=tuple(float(v) for v in example["circle"]),
        rectangle=tuple(int(v) for v in example["crop"]),
        padding=(left, top, right, bottom),
        size=_side(example["image"]),
    )
    labels = {name: int(example[name]) for name in ("grade", "dme", "any_dr")}
    sample = Sample(image_id=example["image_id"].decode(), path=None, split=split, **labels)
    return RecordedImage(sample, example["sha256"].decode(), geometry, example["image"])


def _side(jpeg):
    return int(tf.io.extract_jpeg_shape(jpeg)[0])
