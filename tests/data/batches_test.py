"""Contents of batches, which are the same for any number of threads and workers."""

import dataclasses
import hashlib

import keras
import numpy as np
import tensorflow as tf

from dr_tf.data.batches import ordered_batches, training_batches
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import open_records
from dr_tf.data.sampling import ExactlyEach, Shuffled, Weighted
from tests.data.sets import SIZE, drawn_root


@dataclasses.dataclass
class Noise:
    """Adds noise: equal pixels mean equal random draws."""

    same_for_both_eyes: bool = False

    def augment(self, image, rng):
        return (image // 2 + rng.integers(0, 100, image.shape)).astype(np.uint8)


@dataclasses.dataclass
class Stamp:
    """Replaces the image by its first random number."""

    same_for_both_eyes: bool = False

    def augment(self, image, rng):
        return np.full_like(image, rng.integers(1, 255))


def _digest(dataset):
    return [hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in tf.nest.flatten(element))).digest()
            for element in dataset.as_numpy_iterator()]  # fmt: skip


class TrainingBatchesTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        records = open_records(drawn_root(), "drawn/plain")
        cls.rows, cls.grades = records.rows("train"), records.columns["grade"]
        cls.images = ImageLoader(records, cache="none")

    def _batches(self, sampling=None, **options):
        order = (sampling or Shuffled()).plan(self.grades[self.rows], batch_size=options.pop("batch_size", 5), seed=1)
        return training_batches(self.images, self.grades, rows=self.rows, order=order, seed=3, **options), order

    def test_images_and_targets_belong_together(self):
        batches, order = self._batches()
        self.assertEqual(int(batches.cardinality()), 4)
        self.assertEqual(batches.element_spec[0].shape, (5, SIZE, SIZE, 3))
        for drawn, (x, y) in zip(order.epoch(0), batches, strict=True):
            self.assertAllEqual(x, [self.images.read(self.rows[i]) for i in drawn])
            self.assertAllEqual(y, self.grades[self.rows[drawn]])

    def test_two_epochs_are_one_dataset(self):
        both = _digest(self._batches(epochs=2, augmentation=Noise())[0])
        first = _digest(self._batches(epochs=1, augmentation=Noise())[0])
        second = _digest(self._batches(first_epoch=1, epochs=2, augmentation=Noise())[0])
        self.assertEqual(both, first + second)
        self.assertEmpty(set(first) & set(second))

    def test_equal_bytes_for_any_number_of_threads(self):
        runs = [_digest(self._batches(epochs=2, augmentation=Noise(), threads=n)[0]) for n in (1, 1, 2, 8)]
        for other in runs[1:]:
            self.assertEqual(runs[0], other)

    def test_equal_bytes_under_op_determinism(self):
        expected = _digest(self._batches(augmentation=Noise())[0])
        tf.config.experimental.enable_op_determinism()
        try:
            self.assertEqual(_digest(self._batches(augmentation=Noise())[0]), expected)
        finally:
            from tensorflow.python.framework import config  # there is no public way back

            config.disable_op_determinism()

    def test_a_repeated_example_is_augmented_differently_each_time(self):
        batches, order = self._batches(ExactlyEach(per_class=6), batch_size=30, augmentation=Stamp())
        stamps = {}
        for drawn, (x, _) in zip(order.epoch(0), batches, strict=True):
            for position, pixel in zip(drawn, x[:, 0, 0, 0], strict=True):
                stamps.setdefault(position, []).append(int(pixel))
        self.assertTrue(any(len(draws) > 1 for draws in stamps.values()))
        self.assertTrue(all(len(set(draws)) == len(draws) for draws in stamps.values()))

    def test_augmentation_does_not_depend_on_the_batch_size(self):
        def stamps(size):
            batches, order = self._batches(batch_size=size, augmentation=Stamp())
            pixels = np.concatenate([x[:, 0, 0, 0] for x, _ in batches.as_numpy_iterator()])
            return dict(zip(order.epoch(0).ravel().tolist(), pixels.tolist(), strict=True))

        self.assertEqual(stamps(5), stamps(10))

    def test_workers_share_each_batch(self):
        for sampling in (Shuffled(), Weighted()):
            whole = [x.numpy() for x, _ in self._batches(sampling, augmentation=Noise())[0]]
            parts = [
                [x.numpy() for x, _ in self._batches(sampling, augmentation=Noise(), shard=(i, 2))[0]] for i in range(2)
            ]
            for batch, even, odd in zip(whole, *parts, strict=True):
                self.assertAllEqual(batch[::2], even)
                self.assertAllEqual(batch[1::2], odd)

    def test_weights_come_third(self):
        weights = np.linspace(0, 1, 30)
        batches, order = self._batches(weights=weights)
        _, _, weight = next(iter(batches))
        self.assertAllClose(weight, weights[self.rows[order.epoch(0)[0]]])

    def test_keras_fits_on_it(self):
        model = keras.Sequential([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        batches, order = self._batches(epochs=3)
        model.fit(batches, epochs=3, steps_per_epoch=order.steps, verbose=0)
        self.assertEqual(int(model.optimizer.iterations), 12)


class OrderedBatchesTest(tf.test.TestCase):
    def test_every_row_once_in_order(self):
        records = open_records(drawn_root(), "drawn/plain")
        images, rows = ImageLoader(records), records.rows("train")[:7]
        batches = ordered_batches(images, records.columns["grade"], rows=rows, batch_size=3)
        self.assertEqual(int(batches.cardinality()), 3)
        seen = list(batches.as_numpy_iterator())
        self.assertEqual([len(y) for _, y in seen], [3, 3, 1])
        self.assertAllEqual(np.concatenate([x for x, _ in seen]), [images.read(row) for row in rows])
        self.assertAllEqual(np.concatenate([y for _, y in seen]), records.columns["grade"][rows])
        self.assertEqual(_digest(batches), _digest(batches))


class PairsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.records = open_records(drawn_root(), "paired/plain")
        cls.images = ImageLoader(cls.records, cache="none")

    def _first(self, augmentation):
        labels = self.records.columns["labels"]
        order = Shuffled().plan(labels, batch_size=12, seed=0)
        rows = self.records.rows("train")
        batches = training_batches(self.images, labels, rows=rows, order=order, augmentation=augmentation)
        return next(iter(batches)), rows[order.epoch(0)[0]]

    def test_both_eyes_and_their_presence(self):
        (x, y), rows = self._first(None)
        self.assertEqual(sorted(x), ["age", "left", "left_present", "right", "right_present", "sex"])
        self.assertAllEqual(y, self.records.columns["labels"][rows])
        for eye in ("left", "right"):
            self.assertAllEqual(x[f"{eye}_present"], self.records.columns[f"{eye}_present"][rows])
            self.assertAllEqual(x[eye], [self.images.read(row, eye) for row in rows])

    def test_an_absent_eye_stays_black(self):
        (x, _), _ = self._first(Stamp())
        self.assertEqual(int(tf.reduce_sum(tf.cast(x["left_present"], tf.int32))), 11)
        self.assertAllEqual(tf.reduce_max(x["left"], (1, 2, 3)) > 0, x["left_present"])

    def test_both_eyes_share_random_numbers_only_if_configured(self):
        for shared in (True, False):
            (x, _), _ = self._first(Stamp(same_for_both_eyes=shared))
            both = x["left_present"] & x["right_present"]
            same = tf.reduce_all(x["left"] == x["right"], (1, 2, 3))
            self.assertEqual(int(tf.reduce_sum(tf.cast(same & both, tf.int32))), 10 if shared else 0)

    def test_ordered_batches_of_pairs(self):
        batches = ordered_batches(
            self.images, self.records.columns["labels"], rows=self.records.rows("train"), batch_size=5
        )
        shapes = [x["right"].shape[0] for x, _ in batches]
        self.assertEqual(shapes, [5, 5, 2])


if __name__ == "__main__":
    tf.test.main()
