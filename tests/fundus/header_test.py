"""Headers of JPEG, PNG, TIFF and BMP files: sizes, orientations, damage and hostile files."""

import struct
import tracemalloc
import unittest
import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dr_tf.fundus.header import BadImageError, Header, read_header
from tests.fundus.synthetic_images import encode

KINDS = ("JPEG", "PNG", "TIFF", "BMP")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")
RGB = np.random.default_rng(0).integers(0, 256, (31, 47, 3)).astype(np.uint8)


def turned(kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return encode(RGB, kind, **({"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif}))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, *more):
    shape = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return SIGNATURES[1] + b"".join(chunk(*c) for c in ((b"IHDR", shape), *more, (b"IEND", b"")))


def jpeg(width, height):
    """Return a JPEG with a frame header of this size and an empty scan."""
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    scan = b"\x01\x01\x00\x00\x3f\x00"
    return (
        b"\xff\xd8"
        + b"".join(b"\xff" + m + struct.pack(">H", 2 + len(b)) + b for m, b in ((b"\xc0", frame), (b"\xda", scan)))
        + b"\0\0\xff\xd9"
    )


def tiff(*entries, order="<", end=b""):
    """Return a TIFF whose directory has entries (tag, type, count, value)."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries))
    return head + b"".join(struct.pack(order + "HHII", *e) for e in entries) + b"\0\0\0\0" + end


def bmp(width, height, *, bits=24, compression=0, pixels=b""):
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + info + pixels


class SizeTest(unittest.TestCase):
    def test_each_format_states_its_size(self):
        for kind in KINDS:
            with self.subTest(kind):
                self.assertEqual(read_header(encode(RGB, kind)), Header(kind.lower(), 47, 31))

    def test_variants_state_their_size(self):
        for name, data in {
            "progressive JPEG": encode(RGB, "JPEG", progressive=True),
            "grey JPEG": encode(RGB[..., 0], "JPEG"),
            "JPEG with restart markers": encode(RGB, "JPEG", restart_marker_blocks=1),
            "JPEG with a comment": encode(RGB, "JPEG", comment=b"\xff\xd9 not the end"),
            "JPEG with bytes after its end": encode(RGB, "JPEG") + b"trailer" * 9,
            "compressed TIFF": encode(RGB, "TIFF", compression="tiff_lzw"),
            "big-endian TIFF": tiff((256, 3, 1, 47 << 16), (257, 4, 1, 31), order=">"),
            "top-down BMP": bmp(47, -31, pixels=bytes(144 * 31)),
            "OS/2 BMP": b"BM" + struct.pack("<IHHIIHHHH", 0, 0, 0, 26, 12, 47, 31, 1, 24) + bytes(144 * 31),
        }.items():
            with self.subTest(name):
                header = read_header(data)
                self.assertEqual((header.width, header.height), (47, 31))

    def test_bigtiff_states_its_size(self):
        entries = ((256, 16, 1, 47), (257, 3, 1, 31))
        data = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(entries))
        data += b"".join(struct.pack("<HHQQ", *e) for e in entries)
        self.assertEqual(read_header(data), Header("tiff", 47, 31))

    def test_the_size_of_an_embedded_thumbnail_is_ignored(self):
        thumbnail = encode(RGB[:8, :8], "JPEG")
        segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
        whole = encode(RGB, "JPEG")
        header = read_header(whole[:2] + segment + whole[2:])
        self.assertEqual((header.width, header.height), (47, 31))

    def test_a_repeated_tag_keeps_its_first_value_as_in_libtiff(self):
        header = read_header(tiff((256, 4, 1, 60000), (257, 4, 1, 31), (256, 4, 1, 47)))
        self.assertEqual(header.width, 60000)


class OrientationTest(unittest.TestCase):
    def test_is_read_and_swaps_the_size_from_five_on(self):
        for kind in ("JPEG", "PNG", "TIFF"):
            for orientation in range(1, 9):
                with self.subTest(kind, orientation=orientation):
                    header = read_header(turned(kind, orientation))
                    self.assertEqual(header.orientation, orientation)
                    self.assertEqual(header.size, (31, 47) if orientation >= 5 else (47, 31))

    def test_an_invalid_orientation_counts_as_upright(self):
        for value in (0, 9, 999):
            with self.subTest(value=value):
                self.assertEqual(read_header(turned("JPEG", value)).orientation, 1)

    def test_a_broken_exif_block_is_ignored(self):
        whole = encode(RGB, "JPEG")
        for exif in (b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"garbage" * 5):
            with self.subTest(exif):
                segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
                self.assertEqual(read_header(whole[:2] + segment + whole[2:]), Header("jpeg", 47, 31))


class BadFileTest(unittest.TestCase):
    def assert_refused(self, data, message):
        with self.assertRaisesRegex(BadImageError, f"^{message}$"):
            read_header(data)

    def test_the_message_states_what_is_wrong(self):
        for data, message in (
            (b"", "the file is empty"),
            (b"hello", "not a JPEG, PNG, TIFF, BMP or DICOM file"),
            (b"GIF89a" + bytes(100), "not a JPEG, PNG, TIFF, BMP or DICOM file"),
            (b"\xff\xd8\xff", "the file is cut short or damaged"),
            (b"\xff\xd8\xff\xd9", "the JPEG file contains no image"),
            (encode(RGB, "JPEG")[:-2], "the JPEG file is cut short"),
            (SIGNATURES[1], "the file is cut short or damaged"),
            (encode(RGB, "PNG")[:-12], "the file is cut short or damaged"),
            (encode(RGB, "TIFF")[:-1], "the TIFF file is cut short"),
            (tiff(), "the TIFF file states no size"),
            (encode(RGB, "BMP")[:-1], "the BMP file is cut short"),
            (bmp(0, 5), "the file states a size of zero"),
            (bmp(-5, 5, compression=1), "the file states a size of zero"),
            (png(0, 7), "the file states a size of zero"),
            (jpeg(0, 7), "the file states a size of zero"),
        ):
            with self.subTest(data[:12], message=message):
                self.assert_refused(data, message)

    def test_a_png_overwritten_anywhere_is_damaged(self):
        whole = encode(RGB, "PNG")
        for at in range(33, len(whole) - 30, len(whole) // 9):
            with self.subTest(at=at):
                self.assert_refused(whole[:at] + b"\xff" * 9 + whole[at + 9 :], ".*(damaged|cut short).*")

    def test_an_overwritten_scan_is_damaged(self):
        whole = encode(RGB, "JPEG")
        middle = len(whole) // 2 + 100
        for fill in (b"\xff" * 40, b"\xff\xc0" * 20, b"\xff\x01" * 20, b"\xff\xd3" * 20, b"\xff\xff\0\0" * 10):
            with self.subTest(fill[:2]):
                self.assert_refused(
                    whole[:middle] + fill + whole[middle + 40 :], "the JPEG file is (damaged|cut short)"
                )

    def test_a_file_cut_anywhere_is_refused_in_one_line(self):
        for kind in KINDS:
            whole = encode(RGB, kind)
            for end in range(0, len(whole), max(1, len(whole) // 300)):
                with self.subTest(kind, end=end):
                    self.assert_refused(whole[:end], "[^\n]+")


class HostileTest(unittest.TestCase):
    def test_tags_that_all_point_at_the_whole_file_take_little_memory(self):
        """4,096 tags of a million values each once took 32 GB."""
        megabyte = bytes(1 << 20)
        entries = [(tag, 1, len(megabyte), 8) for tag in range(1000, 5000)]
        data = tiff((256, 4, 1, 47), (257, 4, 1, 31), *entries, end=megabyte)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        header = read_header(data)
        self.assertLess(tracemalloc.get_traced_memory()[1], 16 << 20)
        self.assertEqual((header.width, header.height), (47, 31))

    def test_a_stated_gigapixel_is_read_without_memory(self):
        for name, data in {
            "png": png(60000, 60000),
            "jpeg": jpeg(60000, 60000),
            "tiff": tiff((256, 4, 1, 60000), (257, 4, 1, 60000)),
            "bmp": bmp(60000, 60000, bits=8, compression=1),
        }.items():
            with self.subTest(name):
                self.assertEqual(read_header(data), Header(name, 60000, 60000))

    @given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
    def test_random_bytes_give_a_header_or_an_error(self, signature, rest):
        try:
            header = read_header(signature + rest)
        except BadImageError as error:
            self.assertRegex(str(error), "^[^\n]+$")
        else:
            self.assertTrue(header.width > 0 and header.height > 0 and 1 <= header.orientation <= 8)

    @given(st.sampled_from(KINDS), st.data())
    def test_overwritten_bytes_give_a_header_or_an_error(self, kind, data):
        whole = bytearray(encode(RGB[:8, :8], kind))
        patch = data.draw(st.binary(min_size=1, max_size=32))
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + len(patch)] = patch
        try:
            header = read_header(bytes(whole))
        except BadImageError as error:
            self.assertRegex(str(error), "^[^\n]+$")
        else:
            self.assertTrue(header.width > 0 and header.height > 0 and 1 <= header.orientation <= 8)


if __name__ == "__main__":
    unittest.main()
