"""Crops of drawn photographs: geometry, black surround, resolution, and refused files."""

import math
import os
import pathlib
import unittest

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dr_tf.fundus.border import inside
from dr_tf.fundus.decode import decode
from dr_tf.fundus.header import BadImageError
from dr_tf.fundus.prepare import crop, encode_jpeg, prepare
from tests.fundus.synthetic_images import draw_fundus, encode, jpeg

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = (ROOT / os.environ.get("DR_TF_SHARED", "../shared")).resolve()
IDRID = SHARED / "data/idrid/B. Disease Grading/1. Original Images"
SIZE = 128
FRAME = {"size": (640, 480), "radius": 210.0}


def photograph(**condition):
    return draw_fundus(**{**FRAME, **condition})


def psnr_inside(a, b, circle):
    mask = inside(circle, a.shape)
    return 10 * np.log10(255**2 / (np.mean((a[mask].astype(float) - b[mask]) ** 2) + 1e-9))


def pixels_outside(prepared):
    """Return the pixels of the crop beyond the border."""
    return prepared.image[~inside(prepared.geometry.circle_on_crop, prepared.image.shape)]


class CropTest(unittest.TestCase):
    def test_is_a_square_of_the_given_size(self):
        data = jpeg(photograph())
        for size in (32, 65, 128, 300, 512, 700):
            with self.subTest(size=size):
                image = prepare(data, size=size).image
                self.assertEqual((image.shape, image.dtype), ((size, size, 3), np.uint8))

    def test_everything_beyond_the_border_is_black(self):
        for name, condition in {
            "grey background": {"background": 28, "noise": 6.0},
            "white background": {"background": 250},
            "burned-in text": {"text": "OD 1962-04-01 DOE J."},
            "text on white": {"text": "OD 1962-04-01 DOE J.", "background": 250},
            "notch": {"notch": 20},
            "glow": {"glow": 0.6},
        }.items():
            for enhancement in ("plain", "clahe"):
                with self.subTest(name, enhancement=enhancement):
                    prepared = prepare(encode(photograph(**condition), "PNG"), size=SIZE, enhancement=enhancement)
                    self.assertEqual(pixels_outside(prepared).max(), 0)

    def test_a_white_background_does_not_brighten_the_rim(self):
        for name, condition in {"full": {}, "cut": {"shown": (0, 80, 640, 400)}}.items():
            with self.subTest(name):
                black = prepare(encode(photograph(**condition), "PNG"), size=SIZE).image
                white = prepare(encode(photograph(background=255, **condition), "PNG"), size=SIZE).image
                brightest = black.max()
                self.assertLess((white.max(-1) > brightest).mean(), 0.001)
                self.assertGreater(cv2.PSNR(black, white), 25)

    def test_the_circle_is_centred(self):
        for name, condition in {
            "full": {},
            "off-centre": {"centre": (260.0, 250.0)},
            "cut at top and bottom": {"shown": (0, 70, 640, 410)},
            "cut at the bottom": {"shown": (0, 0, 640, 400)},
            "beyond the frame's left": {"centre": (150.0, 240.0)},
        }.items():
            with self.subTest(name):
                x, y, radius = prepare(encode(photograph(**condition), "PNG"), size=SIZE).geometry.circle_on_crop
                np.testing.assert_allclose((x, y, radius), (64, 64, 64), atol=1.5)

    def test_the_geometry_maps_a_mark_on_the_crop_to_the_original(self):
        for reduction, scale in ((2, 1), (4, 2), (8, 3)):
            image = draw_fundus(size=(640 * scale, 480 * scale), radius=210.0 * scale, vessels=False)
            marks = [(260 * scale, 200 * scale), (400 * scale, 330 * scale)]
            for x, y in marks:
                cv2.circle(image, (x, y), 8 * scale, (20, 60, 255), -1)
            prepared = prepare(jpeg(image), size=SIZE)
            bluest = prepared.image[..., 2].astype(int) - prepared.image[..., 0] > 60
            count, _, _, centres = cv2.connectedComponentsWithStats(bluest.astype(np.uint8))
            with self.subTest(reduction=reduction):
                self.assertEqual(decode(jpeg(image), side=167).reduction, reduction)
                self.assertEqual(count, 3)
                found = prepared.geometry.to_original(centres[1:] + 0.5)
                pixel = prepared.geometry.square[2] / SIZE
                np.testing.assert_allclose(sorted(found.tolist()), sorted(marks), atol=0.5 * pixel)

    def test_the_exif_orientation_is_applied_before_cropping(self):
        image = photograph(centre=(260.0, 250.0))
        upright = prepare(jpeg(image, 98), size=SIZE)
        # A camera held upright stores the same view so; orientation 6 means "rotate by 90 degrees clockwise".
        exif = Image.Exif()
        exif[274] = 6
        turned = prepare(jpeg(np.ascontiguousarray(np.rot90(image)), 98, exif=exif), size=SIZE)
        self.assertEqual((turned.geometry.width, turned.geometry.height), (640, 480))
        self.assertGreater(cv2.PSNR(upright.image, turned.image), 33)

    def test_the_original_size_and_the_roundness_are_returned(self):
        prepared = prepare(jpeg(photograph()), size=SIZE)
        self.assertEqual((prepared.geometry.width, prepared.geometry.height), (640, 480))
        np.testing.assert_allclose(prepared.geometry.circle, (320, 240, 210), atol=3)
        self.assertGreater(prepared.roundness, 0.95)

    def test_gradability_is_measured_before_enhancement(self):
        data = jpeg(photograph())
        plain, graham = prepare(data, size=SIZE), prepare(data, size=SIZE, enhancement="graham")
        self.assertEqual(plain.gradability, graham.gradability)
        self.assertGreater(np.abs(plain.image.astype(int) - graham.image).mean(), 5)


class ScaleTest(unittest.TestCase):
    def test_a_small_retina_on_a_large_frame_is_decoded_finer(self):
        # At the reduction that suits the frame, each retina would have fewer pixels than the crop. The last one, 240 of
        # 576 pixels, was once decoded at half its size.
        for width, height, radius in ((2000, 1500, 330.0), (1280, 960, 215.0), (640, 576, 120.0)):
            with self.subTest(radius=radius):
                data = jpeg(draw_fundus(size=(width, height), radius=radius, noise=8.0), 100, subsampling=0)
                first = decode(data, side=math.ceil(1.3 * SIZE)).reduction
                self.assertLess(2 * radius / first, SIZE)
                prepared = prepare(data, size=SIZE)
                expected = crop(decode(data).rgb, prepared.geometry)
                self.assertGreater(psnr_inside(prepared.image, expected, prepared.geometry.circle_on_crop), 45)

    def test_enlarges_a_small_photograph(self):
        image = photograph()
        small = cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)
        large, enlarged = (prepare(encode(i, "PNG"), size=SIZE) for i in (image, small))
        self.assertEqual(enlarged.image.shape, (SIZE, SIZE, 3))
        self.assertGreater(psnr_inside(large.image, enlarged.image, (64, 64, 60)), 26)
        self.assertEqual(pixels_outside(enlarged).max(), 0)

    def test_formats_give_nearly_the_same_crop(self):
        image = photograph()
        first = prepare(encode(image, "PNG"), size=SIZE)
        for name, data, least in (
            ("TIFF", encode(image, "TIFF"), 99),
            ("BMP", encode(image, "BMP"), 99),
            ("16-bit PNG", cv2.imencode(".png", image[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), 99),
            ("JPEG", encode(image, "JPEG", quality=100), 38),
            ("JPEG, full colour", encode(image, "JPEG", quality=100, subsampling=0), 40),
        ):
            with self.subTest(name):
                other = prepare(data, size=SIZE)
                self.assertGreater(cv2.PSNR(first.image, other.image), least)
                np.testing.assert_allclose(first.geometry.circle, other.geometry.circle, atol=1)

    def test_jpeg_of_a_crop_is_close_to_it(self):
        image = prepare(encode(photograph(), "PNG"), size=SIZE).image
        data = encode_jpeg(image)
        self.assertTrue(data.startswith(b"\xff\xd8\xff"))
        self.assertGreater(cv2.PSNR(decode(data).rgb, image), 36)


class BadImageTest(unittest.TestCase):
    def assert_refused(self, data, message):
        with self.assertRaisesRegex(BadImageError, f"^{message}$"):
            prepare(data, size=SIZE)

    def test_the_message_states_what_is_wrong(self):
        black, white = np.zeros((300, 400, 3), np.uint8), np.full((300, 400, 3), 255, np.uint8)
        noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
        whole = jpeg(photograph())
        for name, data, message in (
            ("empty", b"", "the file is empty"),
            ("text", b"left eye", "not a JPEG, PNG, TIFF, BMP or DICOM file"),
            ("cut", whole[: len(whole) // 2], "the JPEG file is cut short"),
            ("all black", encode(black, "PNG"), "no retina found: .+"),
            ("all white", jpeg(white), "no retina found: .+"),
            ("noise", encode(noise, "BMP"), "no retina found: .+"),
            ("one pixel", encode(black[:1, :1], "PNG"), "1 x 1 pixels are too few for a retina"),
            ("31 rows", encode(black[:31], "PNG"), "400 x 31 pixels are too few for a retina"),
            (
                "transparent",
                encode(np.dstack([photograph(), np.zeros((480, 640), np.uint8)]), "PNG"),
                "no retina found: .+",
            ),
        ):
            with self.subTest(name):
                self.assert_refused(data, message)

    def test_unusual_files_of_a_retina_are_accepted(self):
        image = photograph()
        opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
        for name, data in {
            "16-bit": cv2.imencode(".png", image[..., ::-1].astype(np.uint16) * 16)[1].tobytes(),
            "alpha": encode(opaque, "PNG"),
            "very dark": jpeg(photograph(brightness=0.08)),
        }.items():
            with self.subTest(name):
                np.testing.assert_allclose(prepare(data, size=SIZE).geometry.circle, (320, 240, 210), atol=3)

    def test_greyscale_photographs_are_refused(self):
        image = photograph()
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        for name, data in {
            "grey": jpeg(grey),
            "grey as colour": jpeg(np.dstack([grey] * 3), 50),
            "16-bit grey": cv2.imencode(".tiff", grey.astype(np.uint16) * 257)[1].tobytes(),
            "red-free": encode(np.dstack([image[..., 1]] * 3), "PNG"),
            "noise of a camera": jpeg(photograph(colour=False)),
        }.items():
            with self.subTest(name):
                self.assert_refused(data, "greyscale or red-free photograph: .+")

    def test_dark_colour_photographs_are_accepted(self):
        for brightness in (0.06, 0.08, 0.2):
            with self.subTest(brightness=brightness):
                self.assertEqual(prepare(jpeg(photograph(brightness=brightness)), size=SIZE).image.shape[0], SIZE)

    def test_the_limit_of_pixels_is_an_argument(self):
        with self.assertRaisesRegex(BadImageError, "^640 x 480 is over the limit of 0.3 megapixels$"):
            prepare(jpeg(photograph()), size=SIZE, max_pixels=300_000)

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_damage_gives_a_crop_or_an_error(self, data):
        whole = bytearray(SMALL[data.draw(st.sampled_from(sorted(SMALL)))])
        patch = data.draw(st.binary(min_size=1, max_size=200))
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + len(patch)] = patch
        try:
            image = prepare(bytes(whole), size=32).image
        except BadImageError as error:
            self.assertRegex(str(error), "^[^\n]+$")
        else:
            self.assertEqual(image.shape, (32, 32, 3))


SMALL = {kind: encode(draw_fundus(size=(120, 90), radius=40.0), kind) for kind in ("JPEG", "PNG", "TIFF", "BMP")}


@unittest.skipUnless(IDRID.is_dir(), f"no photographs in {IDRID}")
class IdridTest(unittest.TestCase):
    def test_the_reduced_decode_is_as_good_as_a_whole_one(self):
        for path in sorted(IDRID.rglob("*.jpg"))[::50]:
            data = path.read_bytes()
            whole = decode(data).rgb
            for size in (300, 512):
                with self.subTest(path.name, size=size):
                    prepared = prepare(data, size=size)
                    expected = crop(whole, prepared.geometry)
                    self.assertGreaterEqual(psnr_inside(prepared.image, expected, prepared.geometry.circle_on_crop), 45)


if __name__ == "__main__":
    unittest.main()
