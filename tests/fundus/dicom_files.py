"""Make DICOM files of a photograph, in every encoding that is read."""

import importlib.util
import io
import pathlib
import tempfile
import unittest

import numpy as np
from PIL import Image

HAS_PYDICOM = importlib.util.find_spec("pydicom") is not None
HAS_GDCM = importlib.util.find_spec("gdcm") is not None
HAS_JPEG_LS = importlib.util.find_spec("jpeg_ls") is not None
needs_pydicom = unittest.skipUnless(HAS_PYDICOM, "pydicom is not installed: pip install 'dr_tf[dicom]'")

if HAS_PYDICOM:
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.sequence import Sequence
    from pydicom.uid import (
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
        JPEGLSLossless,
        RLELossless,
        generate_uid,
    )

OPHTHALMIC_8_BIT = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
OPHTHALMIC_16_BIT = "1.2.840.10008.5.1.4.1.1.77.1.5.2"
WIDE_FIELD = "1.2.840.10008.5.1.4.1.1.77.1.5.5"
VL_PHOTOGRAPHIC = "1.2.840.10008.5.1.4.1.1.77.1.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
STUDY = "2.25.1"


def dataset(pixels, *, photometric="RGB", sop_class=OPHTHALMIC_8_BIT, **attributes):
    """Return an object of uncompressed pixels, uint8 or uint16 [(frames), height, width, (3)]."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = sop_class
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = STUDY, "2.25.2", "OP"
    made.PatientName, made.PatientID, made.PatientBirthDate = "Secret^Name", "SECRET-ID", "19600102"
    made.PatientSex, made.PatientAge, made.StudyDate, made.StudyTime = "F", "064Y", "20240102", "101010"
    made.AccessionNumber, made.StudyID, made.ReferringPhysicianName = "", "", ""
    made.ImageLaterality, made.BurnedInAnnotation = "R", "NO"
    samples = 3 if pixels.shape[-1] == 3 else 1
    made.SamplesPerPixel, made.PhotometricInterpretation = samples, photometric
    made.Rows, made.Columns = pixels.shape[-3:-1] if samples == 3 else pixels.shape[-2:]
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, 0
    if samples == 3:
        made.PlanarConfiguration = 0
    if pixels.ndim == (4 if samples == 3 else 3):
        made.NumberOfFrames = len(pixels)
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for name, value in attributes.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    made["PixelData"].VR = "OW" if made.get("BitsAllocated") == 16 else "OB"
    return made


def with_frames(made, syntax, frames):
    """Give an object compressed frames."""
    made.PixelData = encapsulate(frames)
    made["PixelData"].VR = "OB"
    made.file_meta.TransferSyntaxUID = syntax
    return made


def to_bytes(made):
    stream = io.BytesIO()
    syntax = made.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(
        stream,
        made,
        enforce_file_format=True,
        little_endian=syntax != ExplicitVRBigEndian,
        implicit_vr=syntax == ImplicitVRLittleEndian,
    )
    return stream.getvalue()


def native(rgb, *, syntax=ExplicitVRLittleEndian, **more):
    made = dataset(rgb, **more)
    made.file_meta.TransferSyntaxUID = syntax
    return to_bytes(made)


def planar(rgb):
    return to_bytes(dataset(rgb, PlanarConfiguration=1, PixelData=rgb.transpose(2, 0, 1).tobytes()))


def ybr_full(rgb):
    return to_bytes(dataset(np.array(Image.fromarray(rgb).convert("YCbCr")), photometric="YBR_FULL"))


def ybr_full_422(rgb):
    """Store each pair of pixels as Y1, Y2, and the Cb and Cr of the first."""
    ybr = np.array(Image.fromarray(rgb).convert("YCbCr"))
    pairs = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    return to_bytes(dataset(ybr, photometric="YBR_FULL_422", PixelData=pairs.tobytes()))


def palette(rgb, bits=16):
    """Store 256 colours, each with `bits` bits."""
    image = Image.fromarray(rgb).quantize(256, dither=Image.Dither.NONE)
    made = dataset(np.array(image), photometric="PALETTE COLOR")
    table = np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    table[: len(colours)] = colours
    values = table.astype(np.uint16) * 257 if bits == 16 else table
    for colour, column in zip(("Red", "Green", "Blue"), values.T, strict=True):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        setattr(made, f"{colour}PaletteColorLookupTableData", np.ascontiguousarray(column).tobytes())
    return to_bytes(made)


def encoded(rgb, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, kind, **options)
    return stream.getvalue()


def jpeg(rgb, *, quality=95, progressive=False, **more):
    made = dataset(rgb, photometric="YBR_FULL_422", LossyImageCompression="01", **more)
    return to_bytes(
        with_frames(made, JPEGBaseline8Bit, [encoded(rgb, "JPEG", quality=quality, progressive=progressive)])
    )


def jpeg_frames(frames, **more):
    made = dataset(np.stack(frames), photometric="YBR_FULL_422", LossyImageCompression="01", **more)
    return to_bytes(with_frames(made, JPEGBaseline8Bit, [encoded(rgb, "JPEG", quality=95) for rgb in frames]))


def jpeg_without_transform(rgb):
    """Store RGB as it is in a JPEG without any marker that says so: only the DICOM header does."""
    data = encoded(rgb, "JPEG", quality=95, subsampling=0, keep_rgb=True)
    at = data.index(b"\xff\xee")  # Adobe's marker
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    data = data[:at] + data[at + 2 + length :]
    for marker in (b"\xff\xc0", b"\xff\xda"):  # name the components 1, 2, 3 rather than R, G, B
        at = data.index(marker)
        data = (
            data[:at]
            + data[at : at + 24].replace(b"R", b"\1").replace(b"G", b"\2").replace(b"B", b"\3")
            + data[at + 24 :]
        )
    return to_bytes(with_frames(dataset(rgb), JPEGBaseline8Bit, [data]))


def rle(pixels, **more):
    made = dataset(pixels, **more)
    made.compress(RLELossless, encoding_plugin="pydicom")
    return to_bytes(made)


def jpeg_ls(pixels, **more):
    made = dataset(pixels, **more)
    made.compress(JPEGLSLossless)
    return to_bytes(made)


def jpeg_2000(rgb, **more):
    frame = encoded(rgb, "JPEG2000", no_jp2=True, irreversible=False, mct=1)
    return to_bytes(with_frames(dataset(rgb, photometric="YBR_RCT", **more), JPEG2000Lossless, [frame]))


def jpeg_lossless(pixels, **more):
    """Encode with GDCM."""
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/native.dcm", f"{folder}/lossless.dcm"
        pathlib.Path(source).write_bytes(to_bytes(dataset(pixels, **more)))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(source)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(target)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return pathlib.Path(target).read_bytes()


def item(**attributes):
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def frame_groups(*eyes):
    """Return functional groups that state the laterality of each frame."""
    anatomies = [item(FrameAnatomySequence=Sequence([item(FrameLaterality=eye)])) for eye in eyes]
    return Sequence(anatomies)


def without_image(sop_class):
    """Return an object such as a report."""
    made = dataset(np.zeros((8, 8, 3), np.uint8), sop_class=sop_class)
    for name in ("PixelData", "Rows", "Columns"):
        delattr(made, name)
    return to_bytes(made)
