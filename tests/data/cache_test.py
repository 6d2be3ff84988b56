"""A cache gives back what was decoded, and never what it did not get whole."""

import os
import pathlib
import unittest
from unittest import mock

import numpy as np
from absl import logging

from dr_tf.console import UserError
from dr_tf.data import cache
from dr_tf.data.cache import make_cache
from dr_tf.data.images import Photographs, resized
from dr_tf.data.records import open_records
from tests.data.sets import SIZE, drawn_root, scratch

SHAPE = (4, 4, 3)
PIXELS = np.arange(48, dtype=np.uint8).reshape(SHAPE)


class CacheTest(unittest.TestCase):
    def _disk(self, directory, key="a"):
        return make_cache("disk", 3, SHAPE, directory=directory, key=key)

    def test_what_was_put_comes_back(self):
        for kind in ("memory", "disk", "auto"):
            with self.subTest(kind):
                kept = make_cache(kind, 3, SHAPE, directory=scratch(self))
                self.assertIsNone(kept.get(1))
                kept.put(1, PIXELS)
                np.testing.assert_array_equal(kept.get(1), PIXELS)
                self.assertIsNone(kept.get(2))

    def test_none_keeps_nothing(self):
        kept = make_cache("none", 3, SHAPE)
        kept.put(1, PIXELS)
        self.assertIsNone(kept.get(1))

    def test_the_disk_remembers(self):
        folder = scratch(self)
        self._disk(folder).put(2, PIXELS)
        np.testing.assert_array_equal(self._disk(folder).get(2), PIXELS)

    def test_black_pixels_are_not_taken_for_an_empty_row(self):
        folder = scratch(self)
        self.assertIsNone(self._disk(folder).get(0))
        self._disk(folder).put(0, np.zeros(SHAPE, np.uint8))
        self.assertIsNotNone(self._disk(folder).get(0))

    def test_what_follows_from_something_else_is_another_file(self):
        folder = scratch(self)
        self._disk(folder).put(2, PIXELS)
        self.assertIsNone(self._disk(folder, key="b").get(2))

    def test_a_row_that_is_not_whole_is_decoded_again(self):
        folder = scratch(self)
        self._disk(folder).put(2, PIXELS)
        (path,) = pathlib.Path(folder).iterdir()
        data = bytearray(path.read_bytes())
        data[-5:] = bytes(5)
        path.write_bytes(data)
        self.assertIsNone(self._disk(folder).get(2))

    def test_a_file_cut_short_is_filled_up(self):
        folder = scratch(self)
        self._disk(folder).put(0, PIXELS)
        (path,) = pathlib.Path(folder).iterdir()
        os.truncate(path, 30)
        kept = self._disk(folder)
        self.assertIsNone(kept.get(0))
        np.testing.assert_array_equal(kept.put(0, PIXELS), PIXELS)

    def test_auto_takes_memory_only_where_there_is_enough(self):
        with mock.patch.object(cache, "free_memory", lambda: 2 * 3 * PIXELS.size):
            self.assertIsInstance(make_cache("auto", 3, SHAPE), cache.MemoryCache)
        with mock.patch.object(cache, "free_memory", lambda: 2 * 3 * PIXELS.size - 2):
            self.assertIsInstance(make_cache("auto", 3, SHAPE), cache.NoCache)

    def test_mistakes(self):
        with self.assertRaisesRegex(UserError, "unknown cache 'ram'; known: auto, memory, disk, none"):
            make_cache("ram", 3, SHAPE)
        with self.assertRaisesRegex(UserError, "cache_dir"):
            make_cache("disk", 3, SHAPE)
        with self.assertRaisesRegex(UserError, "cannot be cached in /proc/nowhere"):
            make_cache("disk", 3, SHAPE, directory="/proc/nowhere")

    def test_a_full_disk_is_said_at_the_start(self):
        full = mock.Mock(side_effect=OSError(28, "No space left on device"))
        with mock.patch.object(os, "posix_fallocate", full), self.assertRaisesRegex(UserError, "No space left"):
            self._disk(scratch(self))


class PhotographsTest(unittest.TestCase):
    def test_a_photograph_is_decoded_once(self):
        for kind, times in {"memory": 1, "disk": 1, "none": 2}.items():
            with self.subTest(kind):
                records = open_records(drawn_root(), "paired/plain")
                photographs = Photographs(records, cache=kind, cache_dir=scratch(self))
                with mock.patch.object(
                    type(records), "photograph", autospec=True, side_effect=type(records).photograph
                ) as decode:
                    first = photographs.read(2, "right").copy()
                    np.testing.assert_array_equal(photographs.read(2, "right"), first)
                    self.assertEqual(decode.call_count, times)
                np.testing.assert_array_equal(first, records.photograph(2, "right"))

    def test_a_disk_cache_is_shared_by_runs_of_the_same_size_only(self):
        folder, records = scratch(self), open_records(drawn_root(), "drawn/plain")
        for size, files in ((SIZE, 1), (SIZE // 2, 2), (SIZE, 2)):
            Photographs(records, image_size=size, cache="disk", cache_dir=folder).read(0)
            self.assertEqual(len(list(pathlib.Path(folder).iterdir())), files)

    def test_resizing_down_averages(self):
        image = np.kron(np.array([[0, 100], [200, 40]], np.uint8), np.ones((2, 2), np.uint8))[..., None].repeat(3, 2)
        np.testing.assert_array_equal(resized(image, 2)[..., 0], [[0, 100], [200, 40]])
        np.testing.assert_array_equal(resized(image, 1)[..., 0], [[85]])
        self.assertEqual(resized(image, 8).shape, (8, 8, 3))

    def test_enlarging_is_said(self):
        records = open_records(drawn_root(), "drawn/plain")
        with self.assertLogs(logging.get_absl_logger(), "WARNING") as said:
            Photographs(records, image_size=2 * SIZE)
        self.assertIn("enlarged from 32 to 64 pixels", said.output[0])


if __name__ == "__main__":
    unittest.main()
