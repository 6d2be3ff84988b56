"""From a sample to the JPEG that its record holds. Runs in worker processes: OpenCV and numpy, never TensorFlow."""

import dataclasses
import hashlib
import pickle
import stat

import cv2
import numpy as np

from dr_tf.fundus import memory
from dr_tf.fundus.geometry import Geometry
from dr_tf.fundus.gradability import Gradability
from dr_tf.fundus.header import BadImageError
from dr_tf.fundus.prepare import crop_mask, encode_jpeg, prepare_undamaged
from tfrecords_builder.descriptors import Trace, trace
from tfrecords_builder.samples import Rejection, Sample


@dataclasses.dataclass(frozen=True)
class Options:
    """All that decides the bytes of a record."""

    image_size: int = 512
    enhancement: str = "plain"
    quality: int = 95
    max_megapixels: float = 200
    paired: bool = False
    audit: str = "on"

    @property
    def config_name(self):
        return f"{self.image_size}-{self.enhancement}-q{self.quality}" + ("-paired" if self.paired else "")


@dataclasses.dataclass(frozen=True)
class Crop:
    sample: Sample
    jpeg: bytes
    geometry: Geometry
    gradability: Gradability
    roundness: float
    sha256: str
    bytes_in: int
    masks: tuple[tuple[str, bytes], ...] = ()  # lesion type and PNG
    trace: Trace | None = None  # for the leak audit


def crop_sample(sample, options):
    """The Crop of a sample, or a Rejection that says why there is none."""
    try:
        return _crop(sample, options)
    except BadImageError as error:
        reason = str(error)
    except FileNotFoundError:
        reason = "the file is absent"
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror}"
    except MemoryError:
        reason = "the photograph does not fit into memory"
    except cv2.error as error:
        reason = f"the photograph cannot be processed: {error.err}"
    return Rejection(sample.image_id, str(sample.path), reason)


def died(sample):
    return Rejection(sample.image_id, str(sample.path), "the process that read it died: the file may be malicious")


def _crop(sample, options):
    status = sample.path.stat()
    if not stat.S_ISREG(status.st_mode):  # to read a pipe would never end
        raise BadImageError("not a file")
    memory.check_file(status.st_size)
    with memory.turn(status.st_size):
        return _crop_file(sample, options)


def _crop_file(sample, options):
    data = sample.path.read_bytes()
    prepared = prepare_undamaged(
        data,
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
        trace=None if options.audit == "off" else trace(prepared.image, prepared.geometry, sha256),
    )


def without_pixels(crop):
    return dataclasses.replace(crop, jpeg=b"", masks=())


def with_pixels(crop, jpeg, masks):
    return dataclasses.replace(crop, jpeg=jpeg, masks=masks)


def _mask(path, geometry):
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise BadImageError(f"its mask {path.name} cannot be decoded")
    return cv2.imencode(".png", crop_mask(pixels, geometry))[1].tobytes()


class Spool:
    """Crops whose pixels wait in one file, so that memory does not grow with the photographs."""

    def __init__(self, path):
        self._file = open(path, "w+b")  # noqa: SIM115
        self._places = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def append(self, crop):
        start = self._file.seek(0, 2)
        pickle.dump((crop.jpeg, crop.masks), self._file)
        self._places.append((dataclasses.replace(without_pixels(crop), trace=None), start))

    def place(self, samples):
        """Gives each crop the sample, with its split, of that image_id; a crop without one is dropped."""
        self._places = [
            (dataclasses.replace(crop, sample=samples[crop.sample.image_id]), start)
            for crop, start in self._places
            if crop.sample.image_id in samples
        ]

    def crops(self):
        """All crops without their pixels, in the order they came."""
        return [crop for crop, _ in self._places]

    def read(self, split):
        """The crops of a split with their pixels."""
        yield from (self._read(place) for place in self._places if place[0].sample.split == split)

    def read_pairs(self, split):
        """{eye: crop} with their pixels, for each patient of a split."""
        patients = {}
        for crop, start in self._places:
            if crop.sample.split == split:
                patients.setdefault(crop.sample.group, {})[crop.sample.eye] = crop, start
        for places in patients.values():
            yield {eye: self._read(place) for eye, place in places.items()}

    def _read(self, place):
        crop, start = place
        self._file.seek(start)
        jpeg, masks = pickle.load(self._file)  # this process wrote it
        return with_pixels(crop, jpeg, masks)
