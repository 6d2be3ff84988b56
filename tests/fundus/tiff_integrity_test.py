"""Damage to the compressed data of a TIFF is found, and undamaged files of many encoders pass."""

import unittest

import cv2
import numpy as np

from dr_tf.fundus.decode import decode
from dr_tf.fundus.header import BadImageError
from dr_tf.fundus.prepare import prepare_undamaged
from dr_tf.fundus.tiff import read_tags, segments
from dr_tf.fundus.tiff_integrity import find_damage
from tests.fundus.synthetic_images import draw_fundus, encode

RGB = draw_fundus(size=(320, 240), radius=105.0, noise=3.0)
LZW, DEFLATE, PACKBITS = 5, 8, 32773


def by_opencv(compression, pixels=RGB):
    return cv2.imencode(".tiff", pixels[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])[1].tobytes()


SIXTEEN = RGB.astype(np.uint16) * 257 - RGB
FILES = {
    "none": encode(RGB, "TIFF"),
    "LZW": encode(RGB, "TIFF", compression="tiff_lzw"),
    "LZW, predictor": by_opencv(LZW),
    "LZW, 16 bits": by_opencv(LZW, SIXTEEN),
    "deflate": encode(RGB, "TIFF", compression="tiff_adobe_deflate"),
    "deflate, predictor": by_opencv(DEFLATE),
    "deflate, 16 bits": by_opencv(DEFLATE, SIXTEEN),
    "PackBits": encode(RGB, "TIFF", compression="packbits"),
    "JPEG": encode(RGB, "TIFF", compression="jpeg"),
    "a blank": encode(np.full_like(RGB, 7), "TIFF", compression="tiff_lzw"),
    "one pixel": encode(RGB[:1, :1], "TIFF", compression="tiff_lzw"),
    "noise": by_opencv(LZW, np.random.default_rng(0).integers(0, 256, (100, 900, 3)).astype(np.uint8)),
}
# Share of pixels that may be wrong without being detected: one code was changed to another of equal length.
UNDETECTED = {"LZW": 0.0005, "LZW, predictor": 0.04, "LZW, 16 bits": 0.04, "PackBits": 0.0005}


def flip_bits(data, count, seed):
    """Yield `count` copies of `data`, each with one bit of its strips flipped."""
    rng = np.random.default_rng(seed)
    strips = segments(read_tags(data))
    for _ in range(count):
        offset, size = strips[rng.integers(len(strips))]
        damaged = bytearray(data)
        damaged[offset + rng.integers(size)] ^= 1 << rng.integers(8)
        yield bytes(damaged)


class UndamagedTest(unittest.TestCase):
    def test_files_of_all_encoders_pass(self):
        for name, data in FILES.items():
            with self.subTest(name):
                self.assertEqual(find_damage(data), "")

    def test_other_compressions_are_refused_by_number(self):
        with self.assertRaisesRegex(BadImageError, "TIFF compression 34925 is not supported"):
            decode(encode(RGB, "TIFF", compression="lzma"))


class FlippedTest(unittest.TestCase):
    def test_every_flipped_bit_in_deflate_strips_is_found(self):
        for name in ("deflate", "deflate, predictor", "deflate, 16 bits"):
            whole = decode(FILES[name]).rgb
            for damaged in flip_bits(FILES[name], 80, seed=1):
                try:
                    rgb = decode(damaged).rgb
                except BadImageError as error:
                    self.assertEqual(str(error), "the TIFF file is damaged")
                else:
                    np.testing.assert_array_equal(rgb, whole, name)

    def test_an_undetected_flip_changes_only_the_pixels_of_one_code(self):
        for name, most_wrong in UNDETECTED.items():
            whole, found = decode(FILES[name]).rgb, 0
            for damaged in flip_bits(FILES[name], 60, seed=2):
                try:
                    wrong = (decode(damaged).rgb != whole).any(-1).mean()
                except BadImageError:
                    found += 1
                else:
                    with self.subTest(name):
                        self.assertLessEqual(wrong, most_wrong)
            self.assertGreater(found, 20 if "LZW" in name else 2, name)

    def test_libjpeg_warnings_about_strips_are_errors(self):
        found = 0
        for damaged in flip_bits(FILES["JPEG"], 40, seed=3):
            try:
                prepare_undamaged(damaged, size=64)
            except BadImageError as error:
                found += str(error) == "the TIFF file is damaged"
        self.assertGreater(found, 5)

    def test_overwritten_and_cut_strips_are_found(self):
        for name, data in FILES.items():
            if not name.startswith(("LZW", "deflate")):
                continue
            offset, size = max(segments(read_tags(data)), key=lambda part: part[1])
            middle = offset + size // 2
            for patch in (bytes(40), b"\xff" * 40, np.random.default_rng(4).bytes(40)):
                with self.subTest(name, patch=patch[:2]), self.assertRaises(BadImageError):
                    prepare_undamaged(data[:middle] + patch + data[middle + 40 :], size=64)


if __name__ == "__main__":
    unittest.main()
