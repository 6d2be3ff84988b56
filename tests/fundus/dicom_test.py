"""DICOM files: every encoding gives the photograph's pixels, the header gives the eye, and bad objects get one line."""

import functools
import io
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import cv2
import numpy as np

from dr_tf.fundus import dicom, dicom_frames, dicom_header
from dr_tf.fundus.decode import decode
from dr_tf.fundus.header import BadImageError
from dr_tf.fundus.prepare import prepare_undamaged
from tests.fundus import dicom_files as files
from tests.tfrecords_builder import trees

PHOTOGRAPH = np.ascontiguousarray(trees.photograph(1))
WIDE = PHOTOGRAPH.astype(np.uint16) * 257
GREY = np.ascontiguousarray(PHOTOGRAPH[..., 1])

# Name -> (file, largest mean difference per channel).
READ = {
    "explicit": (lambda: files.native(PHOTOGRAPH), 0),
    "implicit": (lambda: files.native(PHOTOGRAPH, syntax=files.ImplicitVRLittleEndian), 0),
    "big endian": (lambda: files.native(PHOTOGRAPH, syntax=files.ExplicitVRBigEndian), 0),
    "big endian, 16 bit": (lambda: files.native(WIDE, syntax=files.ExplicitVRBigEndian), 0),
    "16 bit": (lambda: files.native(WIDE, sop_class=files.OPHTHALMIC_16_BIT), 0),
    "12 bits in 16": (lambda: files.native(PHOTOGRAPH.astype(np.uint16) * 16, BitsStored=12, HighBit=11), 0.5),
    "wide field": (lambda: files.native(PHOTOGRAPH, sop_class=files.WIDE_FIELD), 0),
    "VL photographic": (lambda: files.native(PHOTOGRAPH, sop_class=files.VL_PHOTOGRAPHIC), 0),
    "secondary capture": (lambda: files.native(PHOTOGRAPH, sop_class=files.SECONDARY_CAPTURE), 0),
    "a plane per colour": (lambda: files.planar(PHOTOGRAPH), 0),
    "YBR_FULL": (lambda: files.ybr_full(PHOTOGRAPH), 1),
    "YBR_FULL_422": (lambda: files.ybr_full_422(PHOTOGRAPH), 1),
    "palette of 16 bits": (lambda: files.palette(PHOTOGRAPH), 0.2),
    "palette of 8 bits": (lambda: files.palette(PHOTOGRAPH, bits=8), 0.2),
    "JPEG": (lambda: files.jpeg(PHOTOGRAPH), 0.7),
    "progressive JPEG": (lambda: files.jpeg(PHOTOGRAPH, progressive=True), 0.7),
    "JPEG of untransformed RGB": (lambda: files.jpeg_without_transform(PHOTOGRAPH), 0.3),
    "RLE": (lambda: files.rle(PHOTOGRAPH), 0),
    "RLE, 16 bit": (lambda: files.rle(WIDE), 0),
    "JPEG 2000": (lambda: files.jpeg_2000(PHOTOGRAPH), 0),
    "the first of two frames": (lambda: files.native(np.stack([PHOTOGRAPH, PHOTOGRAPH[::-1]])), 0),
    "the first of two RLE frames": (lambda: files.rle(np.stack([PHOTOGRAPH, PHOTOGRAPH[::-1]])), 0),
}
if files.HAS_JPEG_LS:
    READ["JPEG-LS"] = (lambda: files.jpeg_ls(PHOTOGRAPH), 0)
    READ["JPEG-LS, 16 bit"] = (lambda: files.jpeg_ls(WIDE), 0)
if files.HAS_GDCM:
    READ["JPEG lossless"] = (lambda: files.jpeg_lossless(PHOTOGRAPH), 0)


def public_files():
    """The test files that come with pydicom; none shows an eye."""
    return pathlib.Path(files.pydicom.__file__).parent / "data" / "test_files"


def overwritten(data, old, new):
    assert data.count(old) == 1, data.count(old)
    return data.replace(old, new)


def with_rows(data, rows):
    return overwritten(
        data, b"\x28\0\x10\0US\2\0" + struct.pack("<H", 300), b"\x28\0\x10\0US\2\0" + struct.pack("<H", rows)
    )


@functools.cache
def plain():
    return files.native(PHOTOGRAPH)


def nested(depth):
    """A header with sequences in sequences."""
    opened = b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    at = plain().index(b"\x08\0\x16\0UI")  # after the group 0002
    return plain()[:at] + b"\0\x52\x29\x92" + opened + (b"\x20\0\x71\x90" + opened) * depth + plain()[at:]


def many_elements():
    """A header with hundreds of thousands of empty items before its pixels."""
    sequence = (
        b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\0\0\0\0" * 60_000 + b"\xfe\xff\xdd\xe0\0\0\0\0"
    )
    at = plain().index(b"\x08\0\x16\0UI")  # after the group 0002
    return plain()[:at] + sequence + plain()[at:]


def expanding_rle():
    """RLE whose segments unpack to far more bytes than the image has."""
    segment = b"\x81\0" * 500_000  # 128 bytes each
    frame = struct.pack("<16I", 3, *(64 + i * len(segment) for i in range(3)), *[0] * 12) + 3 * segment
    return files.to_bytes(files.with_frames(files.dataset(PHOTOGRAPH), files.RLELossless, [frame]))


def frame_of_other_size(syntax, photometric, kind, **options):
    larger = np.zeros((900, 1200, 3), np.uint8)
    made = files.dataset(PHOTOGRAPH, photometric=photometric)
    return files.to_bytes(files.with_frames(made, syntax, [files.encoded(larger, kind, **options)]))


# Name -> (file, what the one line says).
BAD = {
    "only a preamble": (lambda: bytes(128) + b"DICM", "states no transfer syntax"),
    "cut in its first group": (lambda: plain()[:150], "states no transfer syntax"),
    "cut in its header": (lambda: plain()[:500], "without an image"),
    "cut in its pixels": (lambda: plain()[: len(plain()) // 2], "cut short"),
    "cut in a JPEG": (lambda: files.jpeg(PHOTOGRAPH)[:-3000], "cut short"),
    "cut in RLE": (lambda: files.rle(PHOTOGRAPH)[:-3000], "cut short"),
    "JPEG with damaged bytes": (lambda: damaged_jpeg(), "JPEG file is damaged|DICOM file is damaged"),
    "unknown transfer syntax": (lambda: overwritten(plain(), b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x14\x001.2.999.10008.1.2.1\0"), "transfer syntax is not read$"),
    "video": (lambda: files.to_bytes(files.with_frames(files.dataset(PHOTOGRAPH), "1.2.840.10008.1.2.4.102", [b"0" * 99])), r"transfer syntax is not read \(MPEG-4 .*\)"),
    "deflated": (lambda: (public_files() / "image_dfl.dcm").read_bytes(), "deflated files are not read"),
    "report": (lambda: files.without_image("1.2.840.10008.5.1.4.1.1.88.34"), r"without an image \(Comprehensive 3D SR Storage\)"),
    "encapsulated PDF": (lambda: files.without_image("1.2.840.10008.5.1.4.1.1.104.1"), r"without an image \(Encapsulated PDF Storage\)"),
    "no pixels": (lambda: files.native(PHOTOGRAPH, PixelData=b""), "cut short"),
    "no rows": (lambda: with_rows(plain(), 0), "without an image"),
    "more rows than pixels": (lambda: with_rows(plain(), 60000), "cut short"),
    "65,535 x 65,535 in a JPEG": (lambda: huge_jpeg(), "over the limit of 200 megapixels"),
    "65,535 x 65,535 in RLE": (lambda: files.to_bytes(files.with_frames(files.dataset(PHOTOGRAPH, Rows=65535, Columns=65535), files.RLELossless, [bytes(200)])), "over the limit of 200 megapixels"),
    "zeros that compress a thousandfold": (lambda: bomb(), "no photograph compresses so well"),
    "a billion frames": (lambda: files.native(PHOTOGRAPH, NumberOfFrames=1_000_000_000), "1000000000 frames are over the limit of 200"),
    "more frames than pixels": (lambda: files.native(PHOTOGRAPH, NumberOfFrames=3), "^the DICOM file is cut short$"),
    "more frames than fragments": (lambda: files.jpeg(PHOTOGRAPH, NumberOfFrames=3), "^the DICOM file is cut short$"),
    "frames that are all black": (lambda: files.native(np.stack([np.zeros_like(PHOTOGRAPH)] * 3)), "^no retina found: [^;]*$"),
    "a black frame and a grey one": (lambda: files.native(np.stack([np.zeros_like(PHOTOGRAPH), np.dstack([GREY] * 3)])), "^frame 1: no retina found.*; frame 2: greyscale"),
    "a negative number of frames": (lambda: files.native(PHOTOGRAPH, NumberOfFrames=-1), "cut short"),
    "JPEG of another size": (lambda: frame_of_other_size(files.JPEGBaseline8Bit, "YBR_FULL_422", "JPEG"), "header states 384 x 300 pixels, its frame 1200 x 900"),
    "JPEG 2000 of another size": (lambda: frame_of_other_size(files.JPEG2000Lossless, "YBR_RCT", "JPEG2000", no_jp2=True), "its frame 1200 x 900"),
    "RLE that expands": (lambda: expanding_rle(), "no retina found"),
    "RLE with a wrong number of segments": (lambda: files.to_bytes(files.with_frames(files.dataset(PHOTOGRAPH), files.RLELossless, [struct.pack("<16I", 9, *[64] * 15)])), "wrong number of RLE segments"),
    "RLE without a header": (lambda: files.to_bytes(files.with_frames(files.dataset(PHOTOGRAPH), files.RLELossless, [b"\1\0"])), "cannot be decoded"),
    "JPEG 2000 that is noise": (lambda: files.to_bytes(files.with_frames(files.dataset(PHOTOGRAPH, photometric="YBR_RCT"), files.JPEG2000Lossless, [b"\0" * 500])), "its frame has no header"),
    "JPEG 2000 cut in half": (lambda: half_jpeg_2000(), "cannot be decoded|no retina found"),
    "a hundred thousand fragments": (lambda: many_fragments(), "too many fragments"),
    "a header of 60,000 items": (many_elements, "too many elements"),
    "32 bits": (lambda: files.native(np.zeros((64, 64, 3), np.uint32)), "only unsigned pixels of 8 or 16 bits"),
    "signed pixels": (lambda: files.native(PHOTOGRAPH, PixelRepresentation=1), "only unsigned pixels"),
    "one bit": (lambda: files.native(GREY, photometric="MONOCHROME2", BitsAllocated=1, BitsStored=1), "only unsigned pixels"),
    "no bits": (lambda: files.native(PHOTOGRAPH, BitsAllocated=None), "only unsigned pixels"),
    "unknown colours": (lambda: files.native(PHOTOGRAPH, PhotometricInterpretation="CMYK"), "kind of colour is not read"),
    "grey with three samples": (lambda: files.native(PHOTOGRAPH, PhotometricInterpretation="MONOCHROME2"), "kind of colour"),
    "palette without a table": (lambda: files.native(GREY, photometric="PALETTE COLOR"), "cannot be decoded"),
    "MONOCHROME1": (lambda: files.native(255 - GREY, photometric="MONOCHROME1"), "greyscale or red-free"),
    "MONOCHROME2, 16 bit": (lambda: files.native(GREY.astype(np.uint16) * 257, photometric="MONOCHROME2"), "greyscale"),
    "a CT": (lambda: (public_files() / "CT_small.dcm").read_bytes(), "only unsigned pixels"),
    "an ultrasound": (lambda: (public_files() / "examples_rgb_color.dcm").read_bytes(), "no retina found"),
    "all black": (lambda: files.native(np.zeros_like(PHOTOGRAPH)), "no retina found"),
}  # fmt: skip


def damaged_jpeg():
    data = bytearray(files.jpeg(PHOTOGRAPH))
    data[-4000:-3900] = b"\xff\xc1" * 50
    return bytes(data)


def huge_jpeg():
    made = files.dataset(PHOTOGRAPH, photometric="YBR_FULL_422", Rows=65535, Columns=65535)
    data = files.encoded(PHOTOGRAPH, "JPEG")
    at = data.index(b"\xff\xc0") + 5
    data = data[:at] + struct.pack(">HH", 65535, 65535) + data[at + 4 :]
    return files.to_bytes(files.with_frames(made, files.JPEGBaseline8Bit, [data]))


def bomb():
    made = files.dataset(PHOTOGRAPH, photometric="YBR_FULL_422", Rows=6000, Columns=6000)
    frame = files.encoded(np.zeros((6000, 6000, 3), np.uint8), "JPEG")
    return files.to_bytes(files.with_frames(made, files.JPEGBaseline8Bit, [frame]))


def half_jpeg_2000():
    frame = files.encoded(PHOTOGRAPH, "JPEG2000", no_jp2=True)
    made = files.dataset(PHOTOGRAPH, photometric="YBR_RCT")
    return files.to_bytes(files.with_frames(made, files.JPEG2000Lossless, [frame[: len(frame) // 2]]))


def many_fragments():
    data = files.jpeg(PHOTOGRAPH)
    at = data.rindex(b"\xfe\xff\0\xe0", 0, data.index(b"\xff\xd8\xff"))
    return data[:at] + b"\xfe\xff\0\xe0\0\0\0\0" * 100_001 + data[at:]


@files.needs_pydicom
class PixelsTest(unittest.TestCase):
    def test_every_encoding_gives_the_photograph(self):
        for name, (make, tolerance) in READ.items():
            with self.subTest(name):
                image = decode(make())
                self.assertEqual((image.width, image.height), (384, 300))
                difference = np.abs(image.rgb.astype(int) - PHOTOGRAPH).mean(axis=(0, 1))
                self.assertLessEqual(difference.max(), tolerance)

    def test_grey_pixels(self):
        for photometric, pixels in (("MONOCHROME2", GREY), ("MONOCHROME1", 255 - GREY)):
            rgb = decode(files.native(pixels, photometric=photometric)).rgb
            np.testing.assert_array_equal(rgb, np.dstack([GREY] * 3))

    def test_a_jpeg_gives_the_pixels_of_the_same_jpeg_file(self):
        jpeg = files.encoded(PHOTOGRAPH, "JPEG", quality=95)
        for side in (None, 100):
            np.testing.assert_array_equal(decode(files.jpeg(PHOTOGRAPH), side=side).rgb, decode(jpeg, side=side).rgb)
        self.assertEqual(decode(files.jpeg(PHOTOGRAPH), side=100).reduction, 2)

    def test_public_files_have_the_colours_that_pydicom_gives_them(self):
        names = sorted(
            p for p in public_files().glob("*.dcm") if p.name.startswith(("SC_", "examples_ybr", "examples_jpeg2k"))
        )
        compared = 0
        for path in names:
            made = files.pydicom.dcmread(path)
            if made.BitsAllocated != 8 or ("JPEG" in made.file_meta.TransferSyntaxUID.name and not files.HAS_GDCM):
                continue
            with self.subTest(path.name):
                expected = files.pydicom.pixels.pixel_array(made, index=0)
                np.testing.assert_allclose(decode(path.read_bytes()).rgb, expected, atol=1)
                compared += 1
        self.assertGreater(compared, 15)

    def test_every_frame_of_every_kind_of_storage(self):
        frames = [PHOTOGRAPH, PHOTOGRAPH[::-1], PHOTOGRAPH[:, ::-1]]
        for data, tolerance in ((files.native(np.stack(frames)), 0), (files.rle(np.stack(frames)), 0), (files.jpeg_frames(frames), 0.7)):  # fmt: skip
            self.assertEqual(dicom.count_frames(data), 3)
            for number, expected in enumerate(frames, 1):
                difference = np.abs(decode(data, frame=number).rgb.astype(int) - expected).mean()
                self.assertLessEqual(difference, tolerance)
            with self.assertRaises(BadImageError):
                decode(data, frame=4)

    def test_other_files_have_one_frame(self):
        self.assertEqual(dicom.count_frames(plain()), 1)
        self.assertEqual(dicom.count_frames(files.encoded(PHOTOGRAPH, "JPEG")), 1)

    def test_big_endian_pairs_of_bytes_that_lie_in_two_frames(self):
        odd = np.stack([np.zeros((33, 33, 3), np.uint8)] * 2)
        data = files.native(odd, syntax=files.ExplicitVRBigEndian)
        self.assertEqual(decode(data).width, 33)
        with self.assertRaisesRegex(BadImageError, "odd number of bytes"):
            decode(data, frame=2)

    def test_the_most_gradable_frame_is_taken(self):
        blurred, black = cv2.GaussianBlur(PHOTOGRAPH, None, 4), np.zeros_like(PHOTOGRAPH)
        expected = prepare_undamaged(files.jpeg(PHOTOGRAPH), size=64)
        for frames in ([blurred, PHOTOGRAPH], [black, blurred, PHOTOGRAPH, PHOTOGRAPH]):
            found = prepare_undamaged(files.jpeg_frames(frames), size=64)
            self.assertEqual(found.frame, 1 + next(i for i, f in enumerate(frames) if f is PHOTOGRAPH))
            np.testing.assert_array_equal(found.image, expected.image)
        data = files.jpeg_frames([blurred, PHOTOGRAPH, black])
        self.assertEqual(prepare_undamaged(data, (1, 3), size=64).frame, 1)
        with self.assertRaisesRegex(BadImageError, "^no retina found"):
            prepare_undamaged(data, (3,), size=64)
        self.assertEqual(expected.frame, 0)

    def test_packbits_by_hand(self):
        packed = bytes([2, 7, 8, 9, 254, 5, 128, 0, 6])  # three bytes as they are, 5 three times, nothing, one byte
        np.testing.assert_array_equal(dicom_frames._unpack_bits(packed, 7), [7, 8, 9, 5, 5, 5, 6])
        np.testing.assert_array_equal(dicom_frames._unpack_bits(packed, 4), [7, 8, 9, 5])
        with self.assertRaisesRegex(BadImageError, "cut short"):
            dicom_frames._unpack_bits(packed, 8)


@files.needs_pydicom
class BadObjectsTest(unittest.TestCase):
    def test_each_gets_one_line(self):
        self.assertGreaterEqual(len(BAD), 25)
        for name, (make, said) in BAD.items():
            with self.subTest(name):
                with self.assertRaisesRegex(BadImageError, said) as caught:
                    prepare_undamaged(make(), size=64)
                self.assertEqual(len(str(caught.exception).splitlines()), 1)
                self.assertNotIn("SECRET", str(caught.exception).upper())

    def test_every_cut_is_refused(self):
        for make in (plain, lambda: files.jpeg(PHOTOGRAPH), lambda: files.rle(PHOTOGRAPH)):
            data = make()
            for end in np.linspace(0, len(data) - 9, 40).astype(int):
                with self.assertRaises(BadImageError):
                    decode(data[:end])

    def test_changed_bytes_of_the_header_never_raise_anything_else(self):
        rng, start = np.random.default_rng(0), files.jpeg(PHOTOGRAPH)
        end = start.index(b"\xff\xd8\xff")
        for _ in range(150):
            data = bytearray(start)
            data[int(rng.integers(132, end))] = int(rng.integers(256))
            try:
                decode(bytes(data))
            except BadImageError as error:
                self.assertEqual(len(str(error).splitlines()), 1)

    def test_a_deep_header_is_read_or_refused(self):
        with self.assertRaises(BadImageError):
            self._info(nested(3000))

    def test_without_pydicom_the_extra_is_named(self):
        with mock.patch.dict(sys.modules, {"pydicom": None}):
            for read in (decode, self._info):
                with self.assertRaisesRegex(BadImageError, r"pip install 'dr_tf\[dicom\]'"):
                    read(plain())

    def _info(self, data):
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            return dicom_header.read_info(file.name)


@files.needs_pydicom
class HeaderTest(unittest.TestCase):
    def info(self, pixels=PHOTOGRAPH, **attributes):
        with tempfile.NamedTemporaryFile() as file:
            file.write(files.native(pixels, **attributes))
            file.flush()
            return dicom_header.path_info(file.name)

    def test_the_eye_is_that_of_the_image_then_of_the_frame_then_of_the_series(self):
        two = np.stack([PHOTOGRAPH] * 2)
        left, right = files.frame_groups("L"), files.frame_groups("R")
        for attributes, eye in (
            ({"ImageLaterality": "L", "Laterality": "R", "SharedFunctionalGroupsSequence": right}, "left"),
            ({"ImageLaterality": None, "Laterality": "R", "SharedFunctionalGroupsSequence": left}, "left"),
            ({"ImageLaterality": None, "PerFrameFunctionalGroupsSequence": files.frame_groups("L", "L")}, "left"),
            ({"ImageLaterality": "", "Laterality": "R"}, "right"),
            ({"ImageLaterality": "B", "Laterality": "R"}, ""),  # both eyes: not the eye of the series
            ({"ImageLaterality": None}, ""),
        ):
            with self.subTest(attributes=attributes):
                self.assertEqual(self.info(two, **attributes).eye, eye)

    def test_the_eye_of_each_frame(self):
        three = np.stack([PHOTOGRAPH] * 3)
        left_right, shared = files.frame_groups("L", "R"), files.frame_groups("R")
        for attributes, eyes in (
            ({"PerFrameFunctionalGroupsSequence": left_right}, ("left", "right", "")),
            ({"PerFrameFunctionalGroupsSequence": left_right, "SharedFunctionalGroupsSequence": shared}, ("left", "right", "right")),
            ({"PerFrameFunctionalGroupsSequence": left_right, "Laterality": "L"}, ("left", "right", "left")),
            ({"PerFrameFunctionalGroupsSequence": left_right, "ImageLaterality": "B", "Laterality": "L"}, ("left", "right", "")),
            ({"PerFrameFunctionalGroupsSequence": left_right, "ImageLaterality": "L"}, ("left",) * 3),
            ({"PerFrameFunctionalGroupsSequence": files.frame_groups("U", "R", "R"), "Laterality": "L"}, ("", "right", "right")),
        ):  # fmt: skip
            with self.subTest(attributes=attributes):
                info = self.info(three, **({"ImageLaterality": None} | attributes))
                self.assertEqual(info.eyes, eyes)
                self.assertEqual([info.eye_of(n) for n in (1, 2, 3)], list(eyes))
                self.assertEqual(info.eye, eyes[0] if len(set(eyes)) == 1 else "")
        info = self.info(
            three, ImageLaterality=None, PerFrameFunctionalGroupsSequence=files.frame_groups("R", "L", "R")
        )
        self.assertEqual(info.frames_by_eye, {"right": (1, 3), "left": (2,)})

    def test_one_patient_in_two_studies_is_not_one_pair(self):
        first, same, other = self.info(), self.info(ImageLaterality="L"), self.info(StudyInstanceUID="2.25.9")
        self.assertEqual(first.patient_of_study, same.patient_of_study)
        self.assertEqual(first.patient, other.patient)
        self.assertNotEqual(first.patient_of_study, other.patient_of_study)
        elsewhere = self.info(IssuerOfPatientID="another clinic")
        self.assertNotEqual(first.patient, elsewhere.patient)

    def test_an_absent_patient_is_unknown(self):
        self.assertEqual(self.info(PatientID="").patient, ())
        for patient in (None, "SECRET-ID"):  # without a study, a patient ID alone pairs no eyes
            self.assertEqual(self.info(PatientID=patient, StudyInstanceUID=None).patient_of_study, ())

    def test_other_attributes(self):
        info = self.info(ManufacturerModelName="Camera 3", BurnedInAnnotation="YES")
        self.assertEqual(
            (info.camera, info.age, info.sex, info.burned_in, info.frames), ("Camera 3", 64, "female", True, 1)
        )
        info = self.info(np.stack([PHOTOGRAPH] * 2), PatientAge="011M", PatientSex="O")
        self.assertEqual((info.age, info.sex, info.burned_in, info.frames), (-1, "", False, 2))

    def test_other_files_have_no_info(self):
        with tempfile.TemporaryDirectory() as folder:
            path = trees.write(f"{folder}/eye.dcm", trees.jpeg(PHOTOGRAPH))
            os.mkfifo(f"{folder}/pipe")
            for name in (path, f"{folder}/absent", folder, f"{folder}/pipe"):
                self.assertIsNone(dicom_header.path_info(name))

    def test_nothing_of_the_header_is_printed(self):
        code = (
            "import logging, sys; logging.basicConfig()\n"
            "from dr_tf.fundus import dicom_header, decode\n"
            "data = sys.stdin.buffer.read()\n"
            "open(sys.argv[1], 'wb').write(data); dicom_header.path_info(sys.argv[1]); decode.decode(data)"
        )
        data = files.native(PHOTOGRAPH).replace(b"20240102", b"SECRET!!").replace(b"064Y", b"SECR")
        with tempfile.NamedTemporaryFile() as file:
            done = subprocess.run([sys.executable, "-c", code, file.name], input=data, capture_output=True, check=True)
        self.assertEqual(done.stdout + done.stderr, b"")

    def test_a_tiff_in_the_preamble_does_not_hide_the_object(self):
        data = b"II*\0" + plain()[4:]
        np.testing.assert_array_equal(decode(data).rgb, PHOTOGRAPH)

    def test_bytes_and_streams_agree(self):
        self.assertEqual(dicom.transfer_syntax(plain()), "1.2.840.10008.1.2.1")
        self.assertTrue(dicom.is_dicom(plain()))
        self.assertFalse(dicom.is_dicom(io.BytesIO().getvalue()))


if __name__ == "__main__":
    unittest.main()
