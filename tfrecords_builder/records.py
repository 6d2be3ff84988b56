"""The one TFDS builder behind all layouts, and the schema of a record. The only module here that needs TensorFlow."""

import contextlib
import io

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from dr_tf.console import UserError
from dr_tf.fundus.geometry import Geometry
from dr_tf.fundus.gradability import Gradability
from dr_tf.fundus.prepare import encode_jpeg
from dr_tf.grades import EYES, ODIR_LABELS
from tfrecords_builder.build import VERSION
from tfrecords_builder.crops import Crop
from tfrecords_builder.samples import SPLITS, Sample


def record_features(size):
    """One photograph. "" and -1 stand for what is not known; boxes are in pixels of the upright original."""
    integer, number, text = np.int32, np.float32, tfds.features.Text()
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(size, size, 3), encoding_format="jpeg", doc="the crop, RGB, black beyond the retina's border"
            ),
            "image_id": text,
            "patient_id": tfds.features.Text(doc="the image_id where the patient is not known"),
            "patient_known": np.bool_,
            "eye": tfds.features.Text(doc="left, right or empty"),
            "source": text,
            "camera": text,
            "age": integer,
            "sex": tfds.features.Text(doc="female, male or empty"),
            "grade": tfds.features.Scalar(integer, doc="ICDR 0-4"),
            "dme": tfds.features.Scalar(integer, doc="risk of macular edema 0-2"),
            "any_dr": tfds.features.Scalar(integer, doc="1 where the grade is at least 1"),
            "labels": tfds.features.Tensor(
                shape=(len(ODIR_LABELS),), dtype=integer, doc="ODIR: " + " ".join(ODIR_LABELS)
            ),
            "keywords": tfds.features.Text(doc="what the publisher's doctors wrote of this eye"),
            "circle": tfds.features.Tensor(shape=(3,), dtype=number, doc="border: centre x, centre y, radius"),
            "crop": tfds.features.Tensor(shape=(4,), dtype=integer, doc="left, top, right, bottom"),
            "padding": tfds.features.Tensor(
                shape=(4,), dtype=integer, doc="black added to the crop: left, top, right, bottom"
            ),
            "original_size": tfds.features.Tensor(shape=(2,), dtype=integer, doc="width, height"),
            "gradability": dict.fromkeys(("score", "sharpness", "exposure", "contrast", "field"), number),
            "sha256": tfds.features.Text(doc="of the original file"),
            "test_copy": tfds.features.Text(
                doc="of a published test split: the image_id of a photograph that this one copies, or empty"
            ),
            "masks": tfds.features.Sequence(
                {"lesion": text, "mask": tfds.features.Image(shape=(size, size, 1), encoding_format="png")},
                doc="one per lesion type that is known, aligned with the image",
            ),
        }
    )


def to_example(crop):
    sample, geometry, quality = crop.sample, crop.geometry, crop.gradability
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
        "gradability": {
            part: getattr(quality, part) for part in ("score", "sharpness", "exposure", "contrast", "field")
        },
        "sha256": crop.sha256,
        "test_copy": sample.test_copy,
        "masks": [{"lesion": lesion, "mask": png} for lesion, png in crop.masks],
    }


def pair_features(size):
    """Both eyes of a patient, each as in `record_features`; an eye that is not there is black, its fields unknown."""
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


def to_pair(eyes, size):
    """`eyes` maps left and right to their crops; one may be absent."""
    either = next(iter(eyes.values())).sample
    sides = {eye: to_example(eyes[eye]) if eye in eyes else _absent(either, eye, size) for eye in EYES}
    return {
        "patient_id": either.group,
        "age": either.age,
        "sex": either.sex,
        "labels": np.array(either.labels, np.int32),
        **{f"{eye}_present": eye in eyes for eye in EYES},
        **sides,
    }


def _absent(fellow, eye, size):
    nowhere = Geometry(width=0, height=0, circle=(0.0,) * 3, rectangle=(0,) * 4, padding=(0,) * 4, size=size)
    return to_example(
        Crop(
            sample=Sample(image_id="", path=None, patient_id=fellow.patient_id, eye=eye),
            jpeg=encode_jpeg(np.zeros((size, size, 3), np.uint8)),
            geometry=nowhere,
            gradability=Gradability(0.0, 0.0, 0.0, 0.0, 0.0, "absent"),
            roundness=0.0,
            sha256="",
            bytes_in=0,
        )
    )


class SortedFieldsWriter(tfds.core.ExampleWriter):
    """A proto's map is serialized in an order that changes from process to process; sorted, equal builds are equal."""

    def write(self, path, examples):
        return super().write(path, ((key, _sorted_fields(serialized)) for key, serialized in examples))


def _sorted_fields(serialized):
    return tf.train.Example.FromString(serialized).SerializeToString(deterministic=True)


class FundusRecords(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes the crops of a spool, one record a photograph or a patient, each into the split of its sample.

    `write_splits`, where it is given, writes them in TFDS's place.
    """

    VERSION = tfds.core.Version(VERSION)

    def __init__(self, *, name, options, spool, metadata, data_dir, write_splits=None):
        self.name, self._write_splits = name, write_splits
        self._options, self._spool, self._metadata = options, spool, metadata
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
        return {split: self._generate_examples(split) for split in self._present()}

    def _present(self):
        present = {crop.sample.split for crop in self._spool.crops()}
        return [split for split in SPLITS if split in present]

    def _generate_splits(self, dl_manager, download_config):
        if self._write_splits is None:
            return super()._generate_splits(dl_manager, download_config)
        return self._write_splits(
            self._spool.crops(),
            features=self.info.features,
            size=self._options.image_size,
            paired=self._options.paired,
            templates={split: self._get_filename_template(split) for split in self._present()},
            writer=self._example_writer(),
        )

    def _example_writer(self):
        return SortedFieldsWriter(self.info.file_format)

    def _generate_examples(self, split):
        if not self._options.paired:
            for crop in self._spool.read(split):
                yield crop.sample.image_id, to_example(crop)
            return
        for eyes in self._spool.read_pairs(split):
            pair = to_pair(eyes, self._options.image_size)
            yield pair["patient_id"], pair


def write_records(**arguments):
    """Writes the splits below data_dir/NAME/CONFIG/VERSION and returns that folder."""
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)  # every config of ours is "custom" to TFDS, which warns of each
    builder = FundusRecords(**arguments)
    with contextlib.redirect_stdout(io.StringIO()):  # it speaks of downloads; there are none
        try:
            builder.download_and_prepare()
        except Exception as error:
            raise _plainly(error) from error
    return builder.data_path


def _plainly(error):
    """A full disk is a TensorFlow error inside a RuntimeError of TFDS; people need the line at its root."""
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    for cause in reversed(causes):
        if isinstance(cause, (OSError, tf.errors.OpError)):
            text = getattr(cause, "message", None) or cause
            return UserError(f"the records cannot be written: {text}; nothing half-written was left")
    return error
