"""Sampling: how often each example is drawn."""

import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.sampling import ExactlyEach, Shuffled, Weighted

GRADES = np.repeat([0, 1, 2], [12, 6, 2])


class ShuffledTest(unittest.TestCase):
    def test_each_once_per_epoch_in_another_order_with_the_rest_left_out(self):
        order = Shuffled().plan(GRADES, batch_size=6, seed=1)
        self.assertEqual((order.steps, order.epoch(0).shape), (3, (3, 6)))
        self.assertEqual(len(set(order.epoch(0).ravel())), 18)
        self.assertNotEqual(order.epoch(0).tolist(), order.epoch(1).tolist())
        np.testing.assert_allclose(order.prior, [0.6, 0.3, 0.1])

    def test_every_example_comes_in_some_epoch(self):
        order = Shuffled().plan(GRADES, batch_size=6, seed=1)
        self.assertEqual(set(np.concatenate([order.epoch(e).ravel() for e in range(5)])), set(range(20)))

    def test_a_small_set_is_one_batch(self):
        order = Shuffled().plan(GRADES, batch_size=64, seed=1)
        self.assertEqual(sorted(order.epoch(3).ravel()), list(range(20)))

    def test_an_epoch_depends_on_the_seed_and_its_number_only(self):
        one, other = (Shuffled().plan(GRADES, batch_size=4, seed=7) for _ in range(2))
        one.epoch(0)
        np.testing.assert_array_equal(one.epoch(5), other.epoch(5))
        self.assertNotEqual(Shuffled().plan(GRADES, batch_size=4, seed=8).epoch(5).tolist(), other.epoch(5).tolist())

    def test_the_prior_of_labels_is_their_frequency(self):
        labels = np.array([[1, 0], [1, 1], [0, 0], [1, 0]])
        np.testing.assert_allclose(Shuffled().plan(labels, batch_size=2, seed=0).prior, [0.75, 0.25])


class WeightedTest(unittest.TestCase):
    def test_classes_come_equally_often(self):
        order = Weighted().plan(GRADES, batch_size=20, seed=3)
        np.testing.assert_allclose(order.prior, [1 / 3] * 3)
        counts = sum(np.bincount(GRADES[order.epoch(e).ravel()], minlength=3) for e in range(300))
        np.testing.assert_allclose(counts / counts.sum(), [1 / 3] * 3, atol=0.01)

    def test_counts_of_an_example_in_an_epoch_differ_by_one_at_most(self):
        order = Weighted().plan(GRADES, batch_size=5, seed=3)
        for epoch in range(20):
            counts = np.bincount(order.epoch(epoch).ravel(), minlength=20)
            self.assertLessEqual(set(counts[:12]), {0, 1})  # due 20 / 3 / 12 = 0.56 times
            self.assertLessEqual(set(counts[12:18]), {1, 2})  # due 1.1 times
            self.assertLessEqual(set(counts[18:]), {3, 4})  # due 3.3 times

    def test_strength_0_keeps_the_class_frequencies(self):
        np.testing.assert_allclose(Weighted(strength=0).plan(GRADES, batch_size=4, seed=0).prior, [0.6, 0.3, 0.1])

    def test_labels_by_their_frequency(self):
        labels = np.array([[1, 0], [1, 0], [1, 0], [1, 1]])
        order = Weighted().plan(labels, batch_size=4, seed=0)
        # Weights: 1 for the first three, (1 + 4) / 2 = 2.5 for the last.
        np.testing.assert_allclose(order.prior, [1, 2.5 / 5.5])

    def test_examples_without_a_label_are_drawn_too(self):
        labels = np.array([[0, 0], [0, 0], [1, 0], [0, 1]])
        drawn = np.concatenate([Weighted().plan(labels, batch_size=4, seed=s).epoch(0).ravel() for s in range(20)])
        self.assertEqual(set(drawn), {0, 1, 2, 3})


class SourcesTest(unittest.TestCase):
    """Eight examples: class 0 has five of source a and one of b, class 1 one of a and one of b."""

    classes = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    sources = np.array(list("aaaaabab"))

    def _plan(self, sampling, **options):
        return sampling.plan(self.classes, **{"batch_size": 4, "seed": 0, "sources": self.sources} | options)

    def _shares(self, sampling, epochs=400):
        """Share of each example in all draws."""
        order = self._plan(sampling, batch_size=8)
        counts = sum(np.bincount(order.epoch(e).ravel(), minlength=8) for e in range(epochs))
        return counts / counts.sum()

    def test_by_source_each_comes_equally_often(self):
        # 6 of a share a half, 2 of b the other: class 1 is a twelfth and a quarter.
        weighted = Weighted(by=("source",))
        np.testing.assert_allclose(self._plan(weighted).prior, [2 / 3, 1 / 3])
        np.testing.assert_allclose(
            self._shares(weighted), np.array([1, 1, 1, 1, 1, 3, 1, 3]) / 12, atol=0.01
        )  # fmt: skip

    def test_by_both_classes_are_balanced_and_sources_within_each(self):
        weighted = Weighted(by=("source", "class"))
        np.testing.assert_allclose(self._plan(weighted).prior, [1 / 2, 1 / 2])
        expected = np.array([0.05] * 5 + [0.25] * 3)
        np.testing.assert_allclose(self._shares(weighted), expected, atol=0.01)

    def test_strength_one_half(self):
        # Class 0 : class 1 as sqrt(6) : sqrt(2); in class 0 a : b as sqrt(5) : 1.
        classes, sources = np.sqrt([6, 2]), np.sqrt([5, 1])
        classes, sources = classes / classes.sum(), sources / sources.sum()
        weighted = Weighted(strength=0.5, by=("class", "source"))
        np.testing.assert_allclose(self._plan(weighted).prior, classes)
        expected = [classes[0] * sources[0] / 5] * 5 + [classes[0] * sources[1]] + [classes[1] / 2] * 2
        np.testing.assert_allclose(self._shares(weighted), expected, atol=0.01)

    def test_a_source_without_a_class_leaves_the_classes_equal(self):
        order = self._plan(Weighted(by=("class", "source")), sources=np.array(list("aaaaabbb")))
        np.testing.assert_allclose(order.prior, [1 / 2, 1 / 2])

    def test_labels_by_source(self):
        # The first label's two examples come from two sources, the second's from one: as without sources.
        labels, sources = np.array([[1, 0], [1, 0], [0, 1]]), np.array(["a", "b", "b"])
        order = Weighted(by=("class", "source")).plan(labels, batch_size=3, seed=0, sources=sources)
        np.testing.assert_allclose(order.prior, [0.5, 0.5])

    def test_a_single_source_changes_nothing(self):
        one = np.full(8, "a")
        for made in (Weighted, lambda **by: ExactlyEach(per_class=3, **by)):
            order = self._plan(made(by=("class", "source")), sources=one)
            same = self._plan(made())
            for epoch in range(3):
                np.testing.assert_array_equal(order.epoch(epoch), same.epoch(epoch))

    def test_sources_take_turns_in_exactly_each(self):
        order = self._plan(ExactlyEach(per_class=2, by=("class", "source")), batch_size=6)
        self.assertEqual((order.steps, order.batch_size), (2, 4))
        for batch in (batch for epoch in range(9) for batch in order.epoch(epoch)):
            self.assertEqual(sorted(zip(self.classes[batch], self.sources[batch], strict=True)),
                             [(0, "a"), (0, "b"), (1, "a"), (1, "b")])  # fmt: skip

    def test_turns_continue_over_batches_and_epochs(self):
        order = self._plan(ExactlyEach(per_class=1, by=("class", "source")), batch_size=6)
        drawn = np.concatenate([order.epoch(epoch) for epoch in range(5)])  # 20 batches of two
        first = np.array([batch[self.classes[batch] == 0][0] for batch in drawn])
        self.assertEqual("".join(self.sources[first]), "ab" * 10)
        np.testing.assert_array_equal(np.bincount(first), [2, 2, 2, 2, 2, 10])  # a's five twice, b's one each time

    def test_unknown_values_of_by_are_refused(self):
        for made in (lambda: Weighted(by="source"), lambda: Weighted(by=()), lambda: Weighted(by=("camera",)),
                     lambda: ExactlyEach(per_class=1, by=("source",))):  # fmt: skip
            with self.assertRaisesRegex(UserError, r"(weighted|exactly_each).by is \('class',\) or"):
                made()


class ExactlyEachTest(unittest.TestCase):
    def test_each_batch_holds_equal_numbers_of_each_class(self):
        order = ExactlyEach(per_class=2).plan(GRADES, batch_size=6, seed=0)
        self.assertEqual(order.steps, 3)
        for batch in order.epoch(4):
            np.testing.assert_array_equal(np.bincount(GRADES[batch]), [2, 2, 2])
        np.testing.assert_allclose(order.prior, [1 / 3] * 3)

    def test_all_of_a_class_are_used_before_one_comes_again(self):
        order = ExactlyEach(per_class=2).plan(GRADES, batch_size=6, seed=0)
        seen = np.concatenate([order.epoch(e).ravel() for e in range(4)])  # 24 draws a class
        counts = np.bincount(seen, minlength=20)
        np.testing.assert_array_equal(counts, np.repeat([2, 4, 12], [12, 6, 2]))

    def test_batches_differ_in_the_order_of_classes(self):
        batches = ExactlyEach(per_class=3).plan(GRADES, batch_size=6, seed=0).epoch(0)
        self.assertGreater(len({tuple(GRADES[batch]) for batch in batches}), 1)

    def test_a_class_without_examples_is_refused(self):
        for sampling in (Weighted(), ExactlyEach(per_class=2)):
            with self.subTest(sampling), self.assertRaisesRegex(UserError, "no example to train on is of class 1"):
                sampling.plan(np.array([0, 2]), batch_size=1, seed=0)
        np.testing.assert_allclose(Shuffled().plan(np.array([0, 2]), batch_size=1, seed=0).prior, [0.5, 0, 0.5])

    def test_the_batch_size_follows_from_the_classes(self):
        self.assertEqual(ExactlyEach(per_class=2).plan(GRADES, batch_size=16, seed=0).batch_size, 6)

    def test_labels_are_refused(self):
        with self.assertRaisesRegex(UserError, "@weighted"):
            ExactlyEach(per_class=1).plan(np.eye(3), batch_size=3, seed=0)


class NoExamplesTest(unittest.TestCase):
    def test_nothing_to_train_on(self):
        for sampling in (Shuffled(), Weighted(), ExactlyEach(per_class=1)):
            with self.subTest(sampling), self.assertRaisesRegex(UserError, "no example to train on"):
                sampling.plan(np.zeros(0, int), batch_size=2, seed=0)

    def test_an_example_without_a_label(self):
        with self.assertRaisesRegex(UserError, "without a label"):
            Weighted().plan(np.array([0, -1, 1]), batch_size=1, seed=0)


if __name__ == "__main__":
    unittest.main()
