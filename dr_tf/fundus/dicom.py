"""Read a frame of a DICOM file.

A file is recognized by its content, because DICOM files often have no suffix. Only named attributes of the header are read,
and never a patient's name. pydicom is imported when the first DICOM file is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import struct
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dr_tf.fundus.header import BadImageError, Header
from dr_tf.fundus.header import read_header as read_image_header
from dr_tf.image_files import DICOM_MAGIC, DICOM_MAGIC_AT

if TYPE_CHECKING:
    import pydicom

MISSING = "a DICOM file, which needs the extra `dicom`: pip install 'dr_tf[dicom]'"
JPEG, RLE, NATIVE, CODEC = "jpeg", "rle", "native", "codec"  # how pixels are stored
# Transfer syntax -> how its pixels are stored. Deflated and video ones are missing on purpose.
_STORAGE = {
    "1.2.840.10008.1.2": NATIVE,
    "1.2.840.10008.1.2.1": NATIVE,
    "1.2.840.10008.1.2.2": NATIVE,  # big endian
    "1.2.840.10008.1.2.5": RLE,
    "1.2.840.10008.1.2.4.50": JPEG,  # baseline
    "1.2.840.10008.1.2.4.51": JPEG,  # extended, of which 8 bits are read
    "1.2.840.10008.1.2.4.57": CODEC,  # JPEG lossless
    "1.2.840.10008.1.2.4.70": CODEC,  # JPEG lossless
    "1.2.840.10008.1.2.4.80": CODEC,  # JPEG-LS
    "1.2.840.10008.1.2.4.81": CODEC,  # JPEG-LS
    "1.2.840.10008.1.2.4.90": CODEC,  # JPEG 2000
    "1.2.840.10008.1.2.4.91": CODEC,  # JPEG 2000
}
_PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_IMAGE_TAGS = (
    "SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation",
)  # fmt: skip
_PALETTE_TAGS = tuple(
    f"{part}{colour}PaletteColorLookupTable{end}"
    for part, end in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    for colour in ("Red", "Green", "Blue")
)
MAX_FRAMES = 200
_MAX_READS = 50_000  # by which pydicom may read a header; each element takes one or two
_LONG_LENGTH = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")


@dataclasses.dataclass(frozen=True)
class Frame(Header):
    """The header of a frame that is not a JPEG.

    Attributes:
        attributes: the attributes of the image, as a pydicom Dataset.
        transfer_syntax: the UID of the encoding.
        representation: the value representation of the pixels, OB or OW.
    """

    attributes: Any = dataclasses.field(default=None, compare=False)
    transfer_syntax: str = ""
    representation: str = "OB"


def is_dicom(data: bytes) -> bool:
    """Return whether the content of a file is that of a DICOM file."""
    return data[DICOM_MAGIC_AT : DICOM_MAGIC_AT + len(DICOM_MAGIC)] == DICOM_MAGIC


def count_frames(data: bytes) -> int:
    """Return the number of frames of an image file: 1 for all but DICOM files that state more.

    Raises:
        BadImageError: the DICOM file is damaged, or has more frames than are looked at.
    """
    if not is_dicom(data):
        return 1
    transfer_syntax(data)  # refuses a deflated file before it is inflated
    dataset = read_dataset(Stream(io.BytesIO(data)), ("NumberOfFrames",))
    with named_errors():
        count = number_of(dataset, "NumberOfFrames", 1)
    if count > MAX_FRAMES:
        raise BadImageError(f"DICOM: {count} frames are over the limit of {MAX_FRAMES}")
    return max(1, count)


def read_frame(data: bytes, number: int = 1) -> tuple[Any, Header]:
    """Return the bytes of a frame as it is stored, and its header.

    An 8-bit JPEG frame is returned as a JPEG file, so that it is decoded like any other photograph.

    Args:
        data: the file's bytes.
        number: of the frame, counted from 1.

    Raises:
        BadImageError: the file has no image, is damaged, or is stored in a way that is not read.
    """
    # Imported here: numpy and OpenCV take a third of a second, and a command reads the headers of its files before it needs them.
    from dr_tf.fundus import dicom_frames

    syntax = transfer_syntax(data)
    storage = _STORAGE.get(syntax)
    stream = Stream(io.BytesIO(data))
    dataset = read_dataset(stream, (*_IMAGE_TAGS, *_PALETTE_TAGS))
    with named_errors():
        if not has_image(dataset):
            raise BadImageError(without_image(object_kind_of(dataset)))
        if storage is None:
            raise BadImageError(f"DICOM: its transfer syntax is not read{_in_brackets(_name(syntax))}")
        representation, value = dicom_frames.pixel_data(data, stream.tell(), syntax)
        frame = dataclasses.replace(_checked(dataset, syntax), representation=representation)
        frames = number_of(dataset, "NumberOfFrames", 1)
        if storage == NATIVE:
            return dicom_frames.native_frame(value, frame, number, frames), frame
        coded = dicom_frames.coded_frame(value, number, frames)
        if storage == JPEG:
            return _jpeg(coded, frame)
        if storage != RLE:
            dicom_frames.check_size(dicom_frames.coded_size(coded), frame)
        return coded, frame


def _jpeg(coded: bytes, frame: Frame) -> tuple[bytes, Header]:
    """Return a frame as a JPEG file, and that file's header. An orientation in its EXIF is not DICOM's."""
    from dr_tf.fundus import dicom_frames

    jpeg = dicom_frames.with_colour_transform(coded, str(frame.attributes.PhotometricInterpretation))
    header = dataclasses.replace(read_image_header(jpeg), orientation=1)
    dicom_frames.check_size((header.width, header.height), frame)
    return jpeg, header


def without_image(object_kind: str) -> str:
    """Return the reason why a DICOM object without an image cannot be used."""
    return f"a DICOM object without an image{_in_brackets(object_kind)}"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def transfer_syntax(data: bytes) -> str:
    """Return the UID of a file's encoding, from the group 0002 at its start.

    Raises:
        BadImageError: there is none, or it inflates the whole file, which could be a decompression bomb.
    """
    position = DICOM_MAGIC_AT + len(DICOM_MAGIC)
    try:
        while data[position : position + 2] == b"\2\0":
            element, representation = struct.unpack_from("<H2s", data, position + 2)
            is_long = representation in _LONG_LENGTH
            (length,) = struct.unpack_from("<I" if is_long else "<H", data, position + (8 if is_long else 6))
            position += 12 if is_long else 8
            if element == 0x10:
                syntax = data[position : position + length].rstrip(b"\0 ").decode("ascii")
                if syntax == "1.2.840.10008.1.2.1.99":
                    raise BadImageError("DICOM: deflated files are not read")
                return syntax
            position += length
    except (struct.error, UnicodeDecodeError):
        pass
    raise BadImageError("the DICOM file is damaged: it states no transfer syntax")


class Stream:
    """A file that pydicom reads a header from: too many elements are refused before they fill the memory."""

    def __init__(self, file: Any):
        self._file, self._reads = file, 0
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        self._reads += 1
        if self._reads > _MAX_READS:
            raise BadImageError("DICOM: the header has too many elements")
        return self._file.read(size)


def read_dataset(stream: Any, tags: tuple[str, ...]) -> pydicom.Dataset:
    """Read some attributes of a header; afterwards the stream is at the pixels."""
    with named_errors():
        import pydicom

        return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(tags))


@contextlib.contextmanager
def named_errors() -> Iterator[None]:
    """Turn whatever pydicom raises about a damaged file into a BadImageError, and hide its warnings, which quote values."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (BadImageError, OSError, MemoryError):
        raise
    except ModuleNotFoundError as error:
        raise BadImageError(MISSING) from error
    except Exception as error:  # pydicom raises nearly every type
        raise BadImageError("the DICOM file is damaged or cut short") from error


def object_kind_of(dataset: pydicom.Dataset) -> str:
    """Return the name of the kind of object; empty if it is not one of the standard."""
    return _name(str(dataset.get("SOPClassUID") or ""))


def _name(uid: str) -> str:
    """Return the name of a UID of the standard; nothing for others, which may be anyone's text."""
    from pydicom.uid import UID

    name = UID(uid).name
    return "" if name == uid else name


def has_image(dataset: pydicom.Dataset) -> bool:
    """Return whether the header states the size of an image."""
    return number_of(dataset, "Rows", 0) > 0 and number_of(dataset, "Columns", 0) > 0


def number_of(dataset: pydicom.Dataset, name: str, absent: int) -> int:
    """Return a whole number of the header, or `absent`."""
    value = dataset.get(name)
    return absent if value in (None, "") else int(value)


def _checked(dataset: pydicom.Dataset, syntax: str) -> Frame:
    """Return the header of the image, after checking that its kind of pixels is read."""
    samples, bits = number_of(dataset, "SamplesPerPixel", 1), number_of(dataset, "BitsAllocated", 0)
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if photometric not in _PHOTOMETRIC or samples != (1 if photometric[0] in "MP" else 3):
        raise BadImageError("DICOM: its kind of colour is not read")
    stored = number_of(dataset, "BitsStored", bits)
    if bits not in (8, 16) or not 1 <= stored <= bits or number_of(dataset, "PixelRepresentation", 0):
        raise BadImageError("DICOM: only unsigned pixels of 8 or 16 bits are read")
    channels = 3 if photometric == "PALETTE COLOR" else samples
    width, height = number_of(dataset, "Columns", 0), number_of(dataset, "Rows", 0)
    pixel_bytes = channels * bits // 8
    is_view = _STORAGE[syntax] == NATIVE and photometric in ("RGB", "MONOCHROME2")  # of the file, which is in memory
    copies = 0 if is_view else 2 * pixel_bytes * width * height  # of pydicom and of the conversion of colours
    return Frame("dicom", width, height, 1, pixel_bytes, copies, attributes=dataset, transfer_syntax=syntax)
