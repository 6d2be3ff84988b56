"""Decoding of all formats: pixels, orientation, reduction, large files, bombs and bad files."""

import contextlib
import io
import os
import tempfile
import unittest
from unittest import mock

import cv2
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dr_tf.fundus import memory
from dr_tf.fundus import tiff as tiff_tags
from dr_tf.fundus.decode import DecodedImage, decode
from dr_tf.fundus.header import BadImageError, read_header
from dr_tf.fundus.prepare import prepare_undamaged
from tests.fundus.header_test import SIGNATURES, bmp, tiff
from tests.fundus.header_test import jpeg as jpeg_of_nothing
from tests.fundus.header_test import png as png_of_nothing
from tests.fundus.synthetic_images import draw_fundus, encode, jpeg

RGB = draw_fundus(size=(163, 121), radius=55.0)
GREY = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)
KINDS = ("JPEG", "PNG", "TIFF", "BMP")


def with_alpha(level):
    return np.dstack([RGB, np.full(RGB.shape[:2], level, np.uint8)])


def in_mode(mode, kind, **options):
    """Return (a file in one of Pillow's modes, the RGB that Pillow decodes from it)."""
    stream = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(stream, kind, **options)
    return stream.getvalue(), np.asarray(Image.open(stream).convert("RGB"))


def sixteen_bit(suffix, pixels):
    return cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


@contextlib.contextmanager
def captured_stderr():
    """Yield a list that receives what was written to standard error, by C libraries, too."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        written = []
        try:
            yield written
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            written.append(file.read().decode())


class FormatTest(unittest.TestCase):
    def test_lossless_formats_keep_their_pixels(self):
        for name, data in {
            "PNG": encode(RGB, "PNG"),
            "TIFF": encode(RGB, "TIFF"),
            "TIFF, LZW": encode(RGB, "TIFF", compression="tiff_lzw"),
            "TIFF, deflate": encode(RGB, "TIFF", compression="tiff_adobe_deflate"),
            "BMP": encode(RGB, "BMP"),
            "BMP with alpha": encode(with_alpha(255), "BMP"),
            "PNG with alpha": encode(with_alpha(255), "PNG"),
            "TIFF with alpha": encode(with_alpha(255), "TIFF"),
            "16-bit PNG": sixteen_bit(".png", RGB.astype(np.uint16) * 257),
            "16-bit TIFF": sixteen_bit(".tiff", RGB.astype(np.uint16) * 257),
        }.items():
            with self.subTest(name):
                decoded = decode(data)
                np.testing.assert_array_equal(decoded.rgb, RGB)
                self.assertEqual((decoded.width, decoded.height, decoded.reduction), (163, 121, 1))

    def test_other_colour_models_look_as_in_a_viewer(self):
        for mode, kind, tolerance in (
            *((mode, kind, 0) for mode in ("L", "P", "1") for kind in ("PNG", "TIFF", "BMP")),
            ("LA", "PNG", 0),
            ("LA", "TIFF", 0),
            ("CMYK", "TIFF", 1),
            ("L", "JPEG", 1),
            ("CMYK", "JPEG", 3),
            ("RGB", "JPEG", 1),
        ):
            with self.subTest(f"{mode} as {kind}"):
                data, expected = in_mode(mode, kind)
                decoded = decode(data)
                self.assertEqual((decoded.rgb.shape, decoded.rgb.dtype), (expected.shape, np.uint8))
                self.assertLessEqual(np.abs(decoded.rgb.astype(int) - expected).max(), tolerance)

    def test_10_to_14_bits_in_16_are_scaled_to_full_range(self):
        for bits in (10, 12, 14, 16):
            full = 2**bits - 1
            pixels = (RGB.astype(np.float32) / RGB.max() * full + 0.5).astype(np.uint16)
            for suffix in (".png", ".tiff"):
                with self.subTest(suffix, bits=bits):
                    expected = RGB.astype(np.float32) * 255 / RGB.max()
                    rgb = decode(sixteen_bit(suffix, pixels)).rgb
                    self.assertLessEqual(np.abs(rgb - expected).max(), 1)

    def test_16_bit_grey(self):
        for suffix in (".png", ".tiff"):
            with self.subTest(suffix):
                rgb = decode(sixteen_bit(suffix, GREY.astype(np.uint16) * 257)).rgb
                np.testing.assert_array_equal(rgb, np.dstack([GREY] * 3))

    def test_transparent_pixels_become_black(self):
        np.testing.assert_array_equal(decode(encode(with_alpha(0), "PNG")).rgb, 0)
        half = decode(encode(with_alpha(128), "PNG")).rgb
        np.testing.assert_array_equal(half, RGB.astype(int) * 128 // 255)


class OrientationTest(unittest.TestCase):
    def turned(self, kind, orientation):
        exif = Image.Exif()
        exif[274] = orientation
        return encode(RGB, kind, **({"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif}))

    def test_all_eight_orientations_are_turned_upright(self):
        for kind in ("JPEG", "PNG", "TIFF"):
            for orientation in range(1, 9):
                with self.subTest(kind, orientation=orientation):
                    data = self.turned(kind, orientation)
                    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
                    decoded = decode(data)
                    self.assertEqual((decoded.height, decoded.width), expected.shape[:2])
                    self.assertLessEqual(np.abs(decoded.rgb.astype(int) - expected).max(), 1)

    def test_grey_jpegs_are_turned_too(self):
        exif = Image.Exif()
        exif[274] = 6
        self.assertEqual(decode(encode(GREY, "JPEG", exif=exif)).rgb.shape, (163, 121, 3))

    def test_a_turned_and_reduced_jpeg_keeps_its_pixels_in_place(self):
        # 163 = 20 * 8 + 3 and 121 = 15 * 8 + 1: the partly filled column and row come first in a turned image
        for orientation in range(1, 9):
            with self.subTest(orientation=orientation):
                data = self.turned("JPEG", orientation)
                reduced, whole = decode(data, side=15), decode(data)
                self.assertEqual(reduced.reduction, 8)
                upright = cv2.resize(RGB[:120, :160], (20, 15), interpolation=cv2.INTER_AREA)
                bare = decode(jpeg(RGB, 75), side=15).rgb
                self.assertLess(np.abs(bare.astype(int) - upright).mean(), 4)
                self.assertEqual(sorted(reduced.rgb.reshape(-1).tolist()), sorted(bare.reshape(-1).tolist()))
                self.assertEqual((reduced.width, reduced.height), (whole.width, whole.height))


class ReductionTest(unittest.TestCase):
    def test_is_the_largest_that_leaves_the_given_side(self):
        data = jpeg(draw_fundus(size=(1200, 800), radius=300.0))
        for side, reduction in (
            (None, 1),
            (801, 1),
            (800, 1),
            (401, 1),
            (400, 2),
            (201, 2),
            (200, 4),
            (101, 4),
            (100, 8),
            (1, 8),
        ):
            with self.subTest(side=side):
                decoded = decode(data, side=side)
                self.assertEqual(decoded.reduction, reduction)
                self.assertEqual(decoded.rgb.shape, (800 // reduction, 1200 // reduction, 3))
                self.assertEqual((decoded.width, decoded.height), (1200, 800))

    def test_a_reduced_jpeg_shows_the_same_image(self):
        image = draw_fundus(size=(1203, 805), radius=300.0)
        for side, reduction in ((400, 2), (200, 4), (100, 8)):
            with self.subTest(reduction=reduction):
                height, width = 805 // reduction, 1203 // reduction
                expected = cv2.resize(
                    image[: height * reduction, : width * reduction], (width, height), interpolation=cv2.INTER_AREA
                )
                rgb = decode(jpeg(image), side=side).rgb
                self.assertEqual(rgb.shape, expected.shape)
                self.assertGreater(cv2.PSNR(rgb, expected), 38)

    def test_other_formats_are_not_reduced(self):
        for kind in ("PNG", "TIFF", "BMP"):
            with self.subTest(kind):
                self.assertEqual(decode(encode(RGB, kind), side=10).reduction, 1)


def encode_by_tifffile(pixels, **options):
    """Return a TIFF as other programs write it: one strip, big-endian or BigTIFF."""
    import tifffile

    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, photometric="rgb", **options)
    return stream.getvalue()


class RowBandsTest(unittest.TestCase):
    """A large TIFF is decoded a band of rows at a time."""

    def test_bands_give_the_same_pixels_as_a_whole_decode(self):
        deep = RGB.astype(np.uint16) * 16
        files = {
            "strips": encode(RGB, "TIFF"),
            "LZW": encode(RGB, "TIFF", compression="tiff_lzw"),
            "LZW, predictor": cv2.imencode(".tiff", RGB[..., ::-1])[1].tobytes(),
            "12 of 16 bits": sixteen_bit(".tiff", deep),
            "grey": encode(GREY, "TIFF"),
            "alpha": encode(with_alpha(255), "TIFF", compression="tiff_lzw"),
            "turned": encode(RGB, "TIFF", tiffinfo={274: 6}),
        }
        with contextlib.suppress(ImportError):
            files["one strip"] = encode_by_tifffile(RGB)
            files["big-endian"] = encode_by_tifffile(deep, byteorder=">", compression="zlib", rowsperstrip=7)
            files["BigTIFF"] = encode_by_tifffile(deep, bigtiff=True, rowsperstrip=5)
        for name, data in files.items():
            whole = decode(data)
            with (
                self.subTest(name),
                mock.patch.object(memory, "LARGE_BYTES", 1000),
                mock.patch.object(memory, "reserve", lambda _: contextlib.nullcontext()),
                mock.patch.object(tiff_tags, "_BAND_BYTES", 150_000),
            ):
                self.assertGreater(read_header(data).rows_per_band, 0)
                np.testing.assert_array_equal(decode(data).rgb, whole.rgb)
                self.assertEqual(decode(data, side=30).rgb.shape, (whole.height // 4, whole.width // 4, 3))


class BombTest(unittest.TestCase):
    def test_sizes_over_the_limit_are_refused_before_anything_is_decoded(self):
        strips = (256, 4, 1, 60000), (257, 4, 1, 60000), (273, 4, 1, 8), (279, 4, 1, 8)
        for name, data in {
            "PNG": png_of_nothing(60000, 60000, (b"IDAT", bytes(50))),
            "JPEG": jpeg_of_nothing(60000, 60000),
            "TIFF": tiff(*strips, end=bytes(50)),
            "BMP": bmp(60000, 60000, bits=8, compression=1, pixels=bytes(50)),
        }.items():
            with self.subTest(name):
                with (
                    mock.patch("cv2.imdecode") as imdecode,
                    self.assertRaisesRegex(BadImageError, "^60000 x 60000 is over the limit of 200 megapixels$"),
                ):
                    decode(data)
                imdecode.assert_not_called()

    def test_the_limit_is_an_argument(self):
        with self.assertRaisesRegex(BadImageError, "^163 x 121 is over the limit of 0.01 megapixels$"):
            decode(encode(RGB, "PNG"), max_pixels=10_000)
        self.assertEqual(decode(encode(RGB, "PNG"), max_pixels=163 * 121).width, 163)


class BadFileTest(unittest.TestCase):
    def outcome(self, data):
        """Return the decoded image, or the one-line reason why there is none; any other exception is a failure."""
        try:
            decoded = decode(data)
        except BadImageError as error:
            self.assertRegex(str(error), "^[^\n]+$")
            return str(error)
        self.assertIsInstance(decoded, DecodedImage)
        self.assertEqual(decoded.rgb.dtype, np.uint8)
        self.assertEqual(decoded.rgb.shape, (decoded.height, decoded.width, 3))
        return decoded

    def test_a_file_cut_at_any_tenth_byte_is_refused(self):
        rgb = cv2.resize(RGB, (53, 40), interpolation=cv2.INTER_AREA)
        files = {kind: encode(rgb, kind) for kind in KINDS}
        files["progressive JPEG"] = encode(rgb, "JPEG", progressive=True, quality=95)
        files["compressed TIFF"] = encode(rgb, "TIFF", compression="tiff_lzw")
        files["16-bit PNG"] = sixteen_bit(".png", rgb.astype(np.uint16) * 257)
        files["TIFF, directory last"] = cv2.imencode(".tiff", rgb)[1].tobytes()
        files["CMYK JPEG"] = _cmyk(rgb)
        for name, whole in files.items():
            self.assertIsInstance(self.outcome(whole), DecodedImage)
            for end in range(0, len(whole), 10):
                with self.subTest(name, end=end):
                    self.assertIsInstance(self.outcome(whole[:end]), str)

    def test_a_damaged_file_gives_an_image_or_an_error(self):
        rng = np.random.default_rng(0)
        for kind in KINDS:
            whole = encode(RGB, kind)
            for at in rng.integers(0, len(whole) - 200, 40):
                for length in (1, 20, 200):
                    for fill in (b"\xff" * length, rng.bytes(length), bytes(length)):
                        with self.subTest(kind, at=at, length=length, fill=fill[:4]):
                            self.outcome(whole[:at] + fill + whole[at + length :])

    def test_a_jpeg_s_scan_overwritten_with_ff_is_refused(self):
        whole = jpeg(RGB)
        for at in range(len(whole) // 3, len(whole) - 100, 97):
            with self.subTest(at=at):
                self.assertRegex(self.outcome(whole[:at] + b"\xff" * 60 + whole[at + 60 :]), "damaged|cut short")

    def test_pixels_of_other_types_are_refused(self):
        for mode, type_name in (("F", "float32"), ("I", "int32")):
            with self.subTest(mode):
                message = f"the pixels have type {type_name}; only 8 or 16 bits per channel are supported"
                self.assertEqual(self.outcome(in_mode(mode, "TIFF")[0]), message)

    def test_a_complete_header_without_pixels_cannot_be_decoded(self):
        for name, data, expected in (
            ("PNG", png_of_nothing(40, 40), "the file cannot be decoded"),
            ("JPEG", b"\xff\xd8\xff\xc0\0\x0b\x08\0\x28\0\x28\x01\x01\x11\0\xff\xd9", "the file cannot be decoded"),
            ("TIFF", tiff((256, 4, 1, 40), (257, 4, 1, 40)), "the TIFF file is damaged"),
        ):
            with self.subTest(name):
                self.assertEqual(self.outcome(data), expected)

    def test_one_pixel_is_decoded(self):
        for kind in KINDS:
            with self.subTest(kind):
                self.assertEqual(self.outcome(encode(RGB[:1, :1], kind)).rgb.shape, (1, 1, 3))

    def test_messages_of_the_decoders_are_not_shown(self):
        """Decoding runs in worker processes, which capture them."""
        with captured_stderr() as written:
            for data in (tiff((256, 4, 1, 40), (257, 4, 1, 40)), png_of_nothing(40, 40)):
                with self.assertRaises(BadImageError):
                    prepare_undamaged(data, size=64)
        self.assertEqual("".join(written), "")

    @settings(deadline=None)
    @given(st.sampled_from(SIGNATURES), st.binary(max_size=300))
    def test_random_bytes_after_a_signature(self, signature, rest):
        self.outcome(signature + rest)

    @settings(deadline=None, suppress_health_check=[HealthCheck.data_too_large])
    @given(st.sampled_from(KINDS), st.data())
    def test_overwritten_bytes_anywhere(self, kind, data):
        whole = bytearray(encode(RGB[:9, :14], kind))
        patch = data.draw(st.binary(min_size=1, max_size=24))
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + len(patch)] = patch
        self.outcome(bytes(whole))


def _cmyk(rgb):
    stream = io.BytesIO()
    Image.fromarray(rgb).convert("CMYK").save(stream, "JPEG")
    return stream.getvalue()


if __name__ == "__main__":
    unittest.main()
