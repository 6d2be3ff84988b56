"""Crop an image to its retina and encode it as the JPEG of its record.

This runs in worker processes, which import OpenCV and numpy but never TensorFlow.
"""

import dataclasses
import hashlib
import pathlib
import pickle
import stat
from collections.abc import Iterator, Mapping
from typing import Self

import cv2
import numpy as np

from dr_tf.fundus import memory
from dr_tf.fundus.geometry import Geometry
from dr_tf.fundus.gradability import Gradability
from dr_tf.fundus.header import BadImageError
from dr_tf.fundus.prepare import crop_mask, encode_jpeg, prepare_undamaged
from tfrecords_builder.descriptors import ImageSignature, compute_signature
from tfrecords_builder.plan import Options
from tfrecords_builder.samples import Rejection, Sample


@dataclasses.dataclass(frozen=True)
class Crop:
    """A sample and its image, cropped to the retina.

    Attributes:
        jpeg: The encoded crop. It is empty while the pixels are in a `CropStore`.
        roundness: Share of the retina's border that was found.
        sha256: Digest of the original file.
        bytes_in: Size of the original file.
        masks: Lesion type and PNG, aligned with the crop.
        signature: For the leak audit; None where the audit is off.
        frame: The frame of a DICOM file with several that was taken, counted from 1; 0 for other files.
    """

    sample: Sample
    jpeg: bytes
    geometry: Geometry
    gradability: Gradability
    roundness: float
    sha256: str
    bytes_in: int
    masks: tuple[tuple[str, bytes], ...] = ()
    signature: ImageSignature | None = None
    frame: int = 0


def crop_sample(sample: Sample, options: Options) -> Crop | Rejection:
    """Crop the image of a sample. Return a Rejection with the reason if that is impossible."""
    try:
        return _crop(sample, options)
    except BadImageError as error:
        reason = str(error)
    except FileNotFoundError:
        reason = "the file does not exist"
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror}"
    except MemoryError:
        reason = "the image does not fit into memory"
    except cv2.error as error:
        reason = f"the image cannot be processed: {error.err}"
    return Rejection(sample.image_id, str(sample.path), reason)


def reject_crashed(sample: Sample) -> Rejection:
    """Return the Rejection of a sample whose image crashed the process that read it."""
    reason = "the process that read the file crashed; the file may be malicious"
    return Rejection(sample.image_id, str(sample.path), reason)


def _crop(sample, options):
    status = sample.path.stat()
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would never end
        raise BadImageError("not a regular file")
    memory.check_file_size(status.st_size)
    with memory.reserve(status.st_size):
        return _crop_file(sample, options)


def _crop_file(sample, options):
    data = sample.path.read_bytes()
    prepared = prepare_undamaged(
        data,
        sample.frames,
        size=options.image_size,
        enhancement=options.enhancement,
        max_pixels=round(options.max_megapixels * 1e6),
    )
    sha256 = hashlib.sha256(data).hexdigest()
    return Crop(
        sample=sample,
        jpeg=encode_jpeg(prepared.image, options.quality),
        geometry=prepared.geometry,
        gradability=prepared.gradability,
        roundness=prepared.roundness,
        sha256=sha256,
        bytes_in=len(data),
        masks=tuple((lesion, _mask(path, prepared.geometry)) for lesion, path in sample.masks),
        signature=None if options.audit == "off" else compute_signature(prepared.image, prepared.geometry, sha256),
        frame=prepared.frame,
    )


def _mask(path, geometry):
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise BadImageError(f"the lesion mask {path.name} cannot be decoded")
    return cv2.imencode(".png", crop_mask(pixels, geometry))[1].tobytes()


def drop_pixels(crop: Crop) -> Crop:
    """Return the crop without its JPEG and masks."""
    return dataclasses.replace(crop, jpeg=b"", masks=())


def restore_pixels(crop: Crop, jpeg: bytes, masks: tuple[tuple[str, bytes], ...]) -> Crop:
    """Return a crop from `drop_pixels` with its JPEG and masks."""
    return dataclasses.replace(crop, jpeg=jpeg, masks=masks)


class CropStore:
    """Crops whose JPEGs and masks are kept in one file, so that memory does not grow with the number of images.

    Args:
        path: The file.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._file = open(path, "w+b")  # noqa: SIM115
        self._entries: list[tuple[Crop, int]] = []  # a crop without its pixels, and their offset in the file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, crop: Crop) -> None:
        """Write the pixels of a crop to the file, and keep the rest of it without its signature."""
        offset = self._file.seek(0, 2)
        pickle.dump((crop.jpeg, crop.masks), self._file)
        self._entries.append((dataclasses.replace(drop_pixels(crop), signature=None), offset))

    def update_samples(self, samples: Mapping[str, Sample]) -> None:
        """Give each crop the sample with its image_id, which has a split by now. Drop the crops that have none."""
        self._entries = [
            (dataclasses.replace(crop, sample=samples[crop.sample.image_id]), offset)
            for crop, offset in self._entries
            if crop.sample.image_id in samples
        ]

    def crops(self) -> list[Crop]:
        """Return all crops without their pixels, in the order in which they were appended."""
        return [crop for crop, _ in self._entries]

    def read_split(self, split: str) -> Iterator[Crop]:
        """Yield the crops of a split with their pixels."""
        yield from (self._read(*entry) for entry in self._entries if entry[0].sample.split == split)

    def read_patients(self, split: str) -> Iterator[dict[str, Crop]]:
        """Yield {eye: crop} for each patient of a split, with pixels."""
        patients: dict[str, dict[str, tuple[Crop, int]]] = {}
        for crop, offset in self._entries:
            if crop.sample.split == split:
                patients.setdefault(crop.sample.group, {})[crop.sample.eye] = crop, offset
        for entries in patients.values():
            yield {eye: self._read(*entry) for eye, entry in entries.items()}

    def _read(self, crop, offset):
        self._file.seek(offset)
        jpeg, masks = pickle.load(self._file)  # written by this process
        return restore_pixels(crop, jpeg, masks)
