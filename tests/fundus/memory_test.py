"""Memory limits of decoding: decompression bombs are refused, and large images are decoded one at a time."""

import pathlib
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
import zlib

import cv2
import numpy as np
import pytest

from dr_tf.fundus import decode as decoding
from dr_tf.fundus import memory
from dr_tf.fundus.decode import decode
from dr_tf.fundus.header import BadImageError, Header, read_header
from tests.fundus.header_test import chunk
from tests.fundus.synthetic_images import draw_fundus, encode

# A child process that prepares a small image and then the given one, and prints the additional memory in MB.
CHILD = """
import resource, sys
from dr_tf.fundus.header import BadImageError
from dr_tf.fundus.prepare import encode_jpeg, prepare
from tests.fundus.synthetic_images import draw_fundus
def peak_mb():  # ru_maxrss would include the memory of the parent at the fork
    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) / 1e3
prepare(encode_jpeg(draw_fundus()), size=256)
normal = peak_mb()
try:
    print(prepare(open(sys.argv[1], 'rb').read(), size=256).image.shape, end=';')
except BadImageError as error:
    print(error, end=';')
print(peak_mb() - normal)
"""


def png(width, height, bits, *, level=1, rows=b"", part=1 << 16):
    """Return a PNG whose rows are all `rows`, or zeros, compressed row by row so that the test takes little memory."""
    compressor, packed = zlib.compressobj(level), []
    row = rows or bytes(1 + width * 3 * bits // 8)
    for _ in range(height):
        packed.append(compressor.compress(row))
    packed.append(compressor.flush())
    shape = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    packed = b"".join(packed)
    parts = [(b"IDAT", packed[at : at + part]) for at in range(0, len(packed), part)]
    body = (b"IHDR", shape), *parts, (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in body)


def noisy_row(width, bits):
    return b"\0" + np.random.default_rng(0).bytes(width * 3 * bits // 8)


@unittest.skipUnless(pathlib.Path("/proc/self/status").exists(), "reads /proc")
class PeakMemoryTest(unittest.TestCase):
    def prepare_in_child(self, data):
        """Return (what the child printed, MB above normal)."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            child = subprocess.run([sys.executable, "-c", CHILD, file.name], capture_output=True, text=True, check=True)
        output, _, peak = child.stdout.rpartition(";")
        return output, float(peak)

    def test_bombs_take_no_memory(self):
        for name, data, expected in (
            ("16 bits", png(14000, 14000, 16, level=6), "no photograph compresses so well"),
            ("8 bits", png(14000, 14000, 8, rows=noisy_row(700, 8) + bytes(39900)), "take [0-9]+ MB to decode"),
        ):
            with self.subTest(name):
                output, peak = self.prepare_in_child(data)
                self.assertRegex(output, expected)
                self.assertLess(peak - len(data) / 1e6, 50)

    @pytest.mark.slow
    def test_50_megapixels_of_16_bits_are_decoded_within_the_limit(self):
        """The frame is four fifths noise, which does not compress and shows no retina."""
        output, peak = self.prepare_in_child(png(8160, 6120, 16, rows=noisy_row(6528, 16) + bytes(9792)))
        self.assertIn("no retina found", output)
        self.assertLess(peak, memory.MAX_DECODING_BYTES / 1e6)


class LimitTest(unittest.TestCase):
    def test_images_over_the_limit_are_refused_before_they_are_decoded(self):
        for name, header, size in (
            ("16-bit PNG", Header("png", 14000, 14000, 1, 6), 100_000_000),
            ("8-bit PNG", Header("png", 16000, 12500, 1, 3), 90_000_000),
            ("progressive JPEG", Header("jpeg", 16000, 12500, extra_bytes=2 * 3 * 200_000_000), 50_000_000),
        ):
            with self.subTest(name), self.assertRaisesRegex(BadImageError, "to decode, over the limit of 600 MB"):
                decoding._choose_reduction(header, 666, size)

    def test_photographs_from_cameras_are_within_the_limit(self):
        for name, header, size in (
            ("16-bit PNG of 50 megapixels", Header("png", 8160, 6120, 1, 6), 250_000_000),
            ("8-bit PNG of 100 megapixels", Header("png", 11500, 8700, 1, 3), 180_000_000),
            ("JPEG of 200 megapixels", Header("jpeg", 16000, 12500), 80_000_000),
            (
                "progressive JPEG of 60 megapixels",
                Header("jpeg", 9000, 6600, extra_bytes=2 * 3 * 59_400_000),
                40_000_000,
            ),
        ):
            with self.subTest(name):
                self.assertIn(decoding._choose_reduction(header, 666, size), (2, 4, 8))

    def test_a_jpeg_that_does_not_fit_into_memory_is_reduced(self):
        self.assertEqual(decoding._choose_reduction(Header("jpeg", 16000, 12500), None, 50_000_000), 2)

    def test_headers_state_the_memory_of_decoding(self):
        rgb = draw_fundus(size=(163, 121), radius=55.0)
        tiff16 = cv2.imencode(".tiff", rgb.astype(np.uint16) * 257)[1].tobytes()
        for name, data, pixel_bytes in (
            ("8-bit PNG", encode(rgb, "PNG"), 3),
            ("16-bit PNG", cv2.imencode(".png", rgb.astype(np.uint16))[1].tobytes(), 6),
            ("PNG with alpha", encode(np.dstack([rgb, rgb[..., :1]]), "PNG"), 4),
            ("grey PNG", encode(rgb[..., 0], "PNG"), 1),
            ("8-bit TIFF", encode(rgb, "TIFF"), 3),
            ("16-bit TIFF", tiff16, 6),
            ("JPEG", encode(rgb, "JPEG"), 3),
        ):
            with self.subTest(name):
                self.assertEqual(read_header(data).pixel_bytes, pixel_bytes)
        self.assertEqual(read_header(encode(rgb, "JPEG")).extra_bytes, 0)
        self.assertEqual(
            read_header(encode(rgb, "JPEG", progressive=True, subsampling=0)).extra_bytes, 2 * 3 * 163 * 121
        )
        self.assertEqual(read_header(encode(rgb, "JPEG", progressive=True, subsampling=2)).extra_bytes, 3 * 163 * 121)

    def test_the_longest_chunk_of_a_png_counts_as_extra_memory(self):
        data = png(300, 200, 8, rows=noisy_row(300, 8), part=1 << 30)
        self.assertEqual(
            read_header(data).extra_bytes, len(data) - 57
        )  # all but a signature and what chunks begin and end with
        self.assertEqual(read_header(png(300, 200, 8, rows=noisy_row(300, 8), part=100)).extra_bytes, 100)

    def test_too_large_a_file(self):
        with self.assertRaisesRegex(BadImageError, "the file is over 320 MB"):
            memory.check_file_size(400_000_000)


class LargeTest(unittest.TestCase):
    def test_large_images_are_reduced_as_they_are_decoded(self):
        small = draw_fundus(size=(640, 480), radius=210.0)
        large = cv2.resize(small, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)[:-1, :-3]
        for name, data, least in (
            ("PNG", cv2.imencode(".png", large[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes(), 38),
            ("BMP", cv2.imencode(".bmp", large[..., ::-1])[1].tobytes(), 38),
        ):
            with self.subTest(name), unittest.mock.patch.object(memory, "LARGE_BYTES", 1_000_000):
                decoded = decode(data, side=400)
                self.assertEqual((decoded.reduction, decoded.width, decoded.height), (4, 2557, 1919))
                self.assertEqual(decoded.rgb.shape, (479, 639, 3))
                self.assertGreater(cv2.PSNR(decoded.rgb, np.ascontiguousarray(small[:479, :639])), least)
                whole = decode(data)
                self.assertEqual(whole.reduction, 1)
                np.testing.assert_array_equal(whole.rgb, large)


class ReserveTest(unittest.TestCase):
    def test_large_images_take_turns(self):
        inside, most = [], []

        def take(size):
            with memory.reserve(size), memory.reserve(size):  # a nested call, as for a file and its pixels
                inside.append(size)
                most.append(len(inside))
                time.sleep(0.05)
                inside.remove(size)

        for size, expected in ((memory.LARGE_BYTES, 1), (1, 3)):
            most.clear()
            threads = [threading.Thread(target=take, args=(size,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(max(most), expected)


if __name__ == "__main__":
    unittest.main()
