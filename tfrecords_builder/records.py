"""The schema of a record, and the TFDS builder that writes the records of every layout.

Together with audit_sets.py and records_on_beam.py, this is the only module of the package that imports TensorFlow.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from dr_tf.console import UserError
from dr_tf.fundus.geometry import Geometry
from dr_tf.fundus.gradability import Gradability
from dr_tf.fundus.prepare import encode_jpeg
from dr_tf.grades import EYES, ODIR_LABELS
from tfrecords_builder.crops import Crop, CropStore
from tfrecords_builder.plan import VERSION, Options
from tfrecords_builder.samples import SPLITS, Sample

_GRADABILITY = ("score", "sharpness", "exposure", "contrast", "field")


def record_features(size: int) -> tfds.features.FeaturesDict:
    """Return the schema of a record of one image.

    An empty string or -1 means that a value is unknown. Boxes are in pixels of the upright original.

    Args:
        size: Side of the crop in pixels.
    """
    integer, number, text = np.int32, np.float32, tfds.features.Text()
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(size, size, 3), encoding_format="jpeg", doc="the crop, RGB, black outside the retina's border"
            ),
            "image_id": text,
            "patient_id": tfds.features.Text(doc="the image_id where the patient is unknown"),
            "patient_known": np.bool_,
            "eye": tfds.features.Text(doc="left, right or empty"),
            "source": text,
            "camera": text,
            "age": integer,
            "sex": tfds.features.Text(doc="female, male or empty"),
            "grade": tfds.features.Scalar(integer, doc="ICDR grade 0-4"),
            "dme": tfds.features.Scalar(integer, doc="risk of diabetic macular edema 0-2"),
            "any_dr": tfds.features.Scalar(integer, doc="1 where the grade is at least 1"),
            "labels": tfds.features.Tensor(
                shape=(len(ODIR_LABELS),), dtype=integer, doc="ODIR labels: " + " ".join(ODIR_LABELS)
            ),
            "keywords": tfds.features.Text(doc="diagnostic keywords of the publisher's doctors for this eye"),
            "circle": tfds.features.Tensor(
                shape=(3,), dtype=number, doc="the retina's border: centre x, centre y, radius"
            ),
            "crop": tfds.features.Tensor(shape=(4,), dtype=integer, doc="left, top, right, bottom"),
            "padding": tfds.features.Tensor(
                shape=(4,), dtype=integer, doc="black added to the crop: left, top, right, bottom"
            ),
            "original_size": tfds.features.Tensor(shape=(2,), dtype=integer, doc="width, height"),
            "gradability": dict.fromkeys(_GRADABILITY, number),
            "sha256": tfds.features.Text(doc="digest of the original file"),
            "test_copy": tfds.features.Text(
                doc="in a published test split: the image_id of an image that this one is a copy of, or empty"
            ),
            "masks": tfds.features.Sequence(
                {"lesion": text, "mask": tfds.features.Image(shape=(size, size, 1), encoding_format="png")},
                doc="one per annotated lesion type, aligned with the image",
            ),
        }
    )


def to_example(crop: Crop) -> dict[str, Any]:
    """Convert a crop to an example with the schema of `record_features`."""
    sample, geometry = crop.sample, crop.geometry
    return {
        "image": crop.jpeg,
        "image_id": sample.image_id,
        "patient_id": sample.group,
        "patient_known": bool(sample.patient_id),
        **{name: getattr(sample, name) for name in ("eye", "source", "camera", "age", "sex", "grade", "dme", "any_dr")},
        "labels": np.array(sample.labels, np.int32),
        "keywords": sample.keywords,
        "circle": np.array(geometry.circle, np.float32),
        "crop": np.array(geometry.rectangle, np.int32),
        "padding": np.array(geometry.padding, np.int32),
        "original_size": np.array((geometry.width, geometry.height), np.int32),
        "gradability": {part: getattr(crop.gradability, part) for part in _GRADABILITY},
        "sha256": crop.sha256,
        "test_copy": sample.test_copy,
        "masks": [{"lesion": lesion, "mask": png} for lesion, png in crop.masks],
    }


def pair_features(size: int) -> tfds.features.FeaturesDict:
    """Return the schema of a record of both eyes of a patient, each with the schema of `record_features`.

    An absent eye has a black image and unknown values.

    Args:
        size: Side of the crops in pixels.
    """
    return tfds.features.FeaturesDict(
        {
            "patient_id": tfds.features.Text(),
            "age": np.int32,
            "sex": tfds.features.Text(),
            "labels": tfds.features.Tensor(shape=(len(ODIR_LABELS),), dtype=np.int32, doc="of the patient"),
            "left_present": np.bool_,
            "right_present": np.bool_,
            "left": record_features(size),
            "right": record_features(size),
        }
    )


def to_pair_example(eyes: Mapping[str, Crop], size: int) -> dict[str, Any]:
    """Convert the crops of a patient to an example with the schema of `pair_features`.

    Args:
        eyes: Maps "left" and "right" to their crops. One eye may be absent.
        size: Side of the crops in pixels.
    """
    patient = next(iter(eyes.values())).sample
    sides = {eye: to_example(eyes[eye]) if eye in eyes else _absent_eye(patient, eye, size) for eye in EYES}
    return {
        "patient_id": patient.group,
        "age": patient.age,
        "sex": patient.sex,
        "labels": np.array(patient.labels, np.int32),
        **{f"{eye}_present": eye in eyes for eye in EYES},
        **sides,
    }


def _absent_eye(fellow, eye, size):
    geometry = Geometry(width=0, height=0, circle=(0.0,) * 3, rectangle=(0,) * 4, padding=(0,) * 4, size=size)
    return to_example(
        Crop(
            sample=Sample(image_id="", path=None, patient_id=fellow.patient_id, eye=eye),
            jpeg=encode_jpeg(np.zeros((size, size, 3), np.uint8)),
            geometry=geometry,
            gradability=Gradability(0.0, 0.0, 0.0, 0.0, 0.0, "absent"),
            roundness=0.0,
            sha256="",
            bytes_in=0,
        )
    )


class SortedFieldsWriter(tfds.core.ExampleWriter):
    """Write examples with sorted fields, so that equal builds write equal bytes.

    A protobuf map is otherwise serialized in an order that differs from process to process.
    """

    def write(self, path: os.PathLike, examples: Iterable[tuple[Any, bytes]]) -> Any:
        """Write (key, serialized example) pairs to a shard."""
        return super().write(path, ((key, _sort_fields(serialized)) for key, serialized in examples))


def _sort_fields(serialized):
    return tf.train.Example.FromString(serialized).SerializeToString(deterministic=True)


class FundusRecords(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """The TFDS builder that writes the crops of a store: one record per image or, if paired, per patient.

    Args:
        name: Name of the record set.
        options: How an image becomes a record.
        store: The crops. The sample of each has a split.
        metadata: Written to metadata.json.
        data_dir: The records are written below this folder, in NAME/CONFIG/VERSION.
        write_splits: Writes the shards instead of TFDS, as `records_on_beam.write_splits` does.
    """

    VERSION = tfds.core.Version(VERSION)

    def __init__(
        self,
        *,
        name: str,
        options: Options,
        store: CropStore,
        metadata: dict[str, Any],
        data_dir: pathlib.Path,
        write_splits: Callable[..., list] | None = None,
    ) -> None:
        self.name, self._write_splits = name, write_splits
        self._options, self._store, self._metadata = options, store, metadata
        config = tfds.core.BuilderConfig(name=options.config_name, version=VERSION)
        super().__init__(config=config, data_dir=data_dir)

    def _info(self):
        features = pair_features if self._options.paired else record_features
        return tfds.core.DatasetInfo(
            builder=self,
            description="Fundus photographs cropped to the retina's border.",
            features=features(self._options.image_size),
            supervised_keys=None,
            metadata=tfds.core.MetadataDict(self._metadata),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self._present_splits()}

    def _present_splits(self):
        present = {crop.sample.split for crop in self._store.crops()}
        return [split for split in SPLITS if split in present]

    def _generate_splits(self, dl_manager, download_config):
        if self._write_splits is None:
            return super()._generate_splits(dl_manager, download_config)
        return self._write_splits(
            self._store.crops(),
            features=self.info.features,
            size=self._options.image_size,
            paired=self._options.paired,
            templates={split: self._get_filename_template(split) for split in self._present_splits()},
            writer=self._example_writer(),
        )

    def _example_writer(self):
        return SortedFieldsWriter(self.info.file_format)

    def _generate_examples(self, split):
        if not self._options.paired:
            for crop in self._store.read_split(split):
                yield crop.sample.image_id, to_example(crop)
            return
        for eyes in self._store.read_patients(split):
            example = to_pair_example(eyes, self._options.image_size)
            yield example["patient_id"], example


def write_records(
    *,
    name: str,
    options: Options,
    store: CropStore,
    metadata: dict[str, Any],
    data_dir: pathlib.Path,
    write_splits: Callable[..., list] | None = None,
) -> pathlib.Path:
    """Write the records of a store and return their folder, DATA_DIR/NAME/CONFIG/VERSION.

    The arguments are those of `FundusRecords`.

    Raises:
        UserError: The files cannot be written, for instance because the disk is full.
    """
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)  # TFDS warns about each custom config
    builder = FundusRecords(
        name=name, options=options, store=store, metadata=metadata, data_dir=data_dir, write_splits=write_splits
    )
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints messages about downloads, though there are none
        try:
            builder.download_and_prepare()
        except Exception as error:
            raise _root_cause(error) from error
    return pathlib.Path(builder.data_path)


def _root_cause(error):
    """Return a UserError for a failed write, or else the error itself.

    TFDS wraps the error of a full disk in a RuntimeError, so the causes are searched from the innermost one.
    """
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    for cause in reversed(causes):
        if isinstance(cause, (OSError, tf.errors.OpError)):
            text = getattr(cause, "message", None) or cause
            return UserError(f"the records cannot be written: {text}; no partial files were left")
    return error
