"""Caches return stored pixels, and never incomplete ones."""

import os
import pathlib
import unittest
from unittest import mock

import numpy as np
from absl import logging

from dr_tf.console import UserError
from dr_tf.data import cache
from dr_tf.data.cache import make_cache
from dr_tf.data.images import ImageLoader, resize_square
from dr_tf.data.records import open_records
from tests.data.sets import SIZE, drawn_root, scratch

SHAPE = (4, 4, 3)
PIXELS = np.arange(48, dtype=np.uint8).reshape(SHAPE)


class CacheTest(unittest.TestCase):
    def _disk(self, directory, key="a"):
        return make_cache("disk", 3, SHAPE, directory=directory, key=key)

    def test_stored_pixels_are_returned(self):
        for kind in ("memory", "disk", "auto"):
            with self.subTest(kind):
                cached = make_cache(kind, 3, SHAPE, directory=scratch(self))
                self.assertIsNone(cached.get(1))
                cached.put(1, PIXELS)
                np.testing.assert_array_equal(cached.get(1), PIXELS)
                self.assertIsNone(cached.get(2))

    def test_none_stores_nothing(self):
        cached = make_cache("none", 3, SHAPE)
        cached.put(1, PIXELS)
        self.assertIsNone(cached.get(1))

    def test_a_later_process_finds_the_cache_on_disk(self):
        folder = scratch(self)
        self._disk(folder).put(2, PIXELS)
        np.testing.assert_array_equal(self._disk(folder).get(2), PIXELS)

    def test_black_pixels_are_not_taken_for_an_empty_row(self):
        folder = scratch(self)
        self.assertIsNone(self._disk(folder).get(0))
        self._disk(folder).put(0, np.zeros(SHAPE, np.uint8))
        self.assertIsNotNone(self._disk(folder).get(0))

    def test_another_key_is_another_file(self):
        folder = scratch(self)
        self._disk(folder).put(2, PIXELS)
        self.assertIsNone(self._disk(folder, key="b").get(2))

    def test_an_incomplete_row_is_not_returned(self):
        folder = scratch(self)
        self._disk(folder).put(2, PIXELS)
        (path,) = pathlib.Path(folder).iterdir()
        data = bytearray(path.read_bytes())
        data[-5:] = bytes(5)
        path.write_bytes(data)
        self.assertIsNone(self._disk(folder).get(2))

    def test_a_truncated_file_is_filled_again(self):
        folder = scratch(self)
        self._disk(folder).put(0, PIXELS)
        (path,) = pathlib.Path(folder).iterdir()
        os.truncate(path, 30)
        cached = self._disk(folder)
        self.assertIsNone(cached.get(0))
        np.testing.assert_array_equal(cached.put(0, PIXELS), PIXELS)

    def test_auto_takes_memory_only_if_there_is_enough(self):
        with mock.patch.object(cache, "free_memory", lambda: 2 * 3 * PIXELS.size):
            self.assertIsInstance(make_cache("auto", 3, SHAPE), cache.MemoryCache)
        with mock.patch.object(cache, "free_memory", lambda: 2 * 3 * PIXELS.size - 2):
            self.assertIsInstance(make_cache("auto", 3, SHAPE), cache.NoCache)

    def test_errors_are_one_line(self):
        with self.assertRaisesRegex(UserError, "unknown cache 'ram'; known: auto, memory, disk, none"):
            make_cache("ram", 3, SHAPE)
        with self.assertRaisesRegex(UserError, "cache_dir"):
            make_cache("disk", 3, SHAPE)
        with self.assertRaisesRegex(UserError, "cannot be cached in /proc/nowhere"):
            make_cache("disk", 3, SHAPE, directory="/proc/nowhere")

    def test_a_full_disk_is_an_error_at_the_start(self):
        full = mock.Mock(side_effect=OSError(28, "No space left on device"))
        with mock.patch.object(os, "posix_fallocate", full), self.assertRaisesRegex(UserError, "No space left"):
            self._disk(scratch(self))


class ImageLoaderTest(unittest.TestCase):
    def test_an_image_is_decoded_once(self):
        for kind, times in {"memory": 1, "disk": 1, "none": 2}.items():
            with self.subTest(kind):
                records = open_records(drawn_root(), "paired/plain")
                images = ImageLoader(records, cache=kind, cache_dir=scratch(self))
                with mock.patch.object(
                    type(records), "image", autospec=True, side_effect=type(records).image
                ) as decode:
                    first = images.read(2, "right").copy()
                    np.testing.assert_array_equal(images.read(2, "right"), first)
                    self.assertEqual(decode.call_count, times)
                np.testing.assert_array_equal(first, records.image(2, "right"))

    def test_a_disk_cache_is_shared_by_runs_of_the_same_size_only(self):
        folder, records = scratch(self), open_records(drawn_root(), "drawn/plain")
        for size, files in ((SIZE, 1), (SIZE // 2, 2), (SIZE, 2)):
            ImageLoader(records, image_size=size, cache="disk", cache_dir=folder).read(0)
            self.assertEqual(len(list(pathlib.Path(folder).iterdir())), files)

    def test_resizing_down_averages(self):
        image = np.kron(np.array([[0, 100], [200, 40]], np.uint8), np.ones((2, 2), np.uint8))[..., None].repeat(3, 2)
        np.testing.assert_array_equal(resize_square(image, 2)[..., 0], [[0, 100], [200, 40]])
        np.testing.assert_array_equal(resize_square(image, 1)[..., 0], [[85]])
        self.assertEqual(resize_square(image, 8).shape, (8, 8, 3))

    def test_enlarging_is_logged(self):
        records = open_records(drawn_root(), "drawn/plain")
        with self.assertLogs(logging.get_absl_logger(), "WARNING") as logged:
            ImageLoader(records, image_size=2 * SIZE)
        self.assertIn("enlarged from 32 to 64 pixels", logged.output[0])


if __name__ == "__main__":
    unittest.main()
