"""Splits and folds: grouped by patient, balanced by grade, published splits kept."""

import collections
import random
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from dr_tf.console import UserError
from tfrecords_builder.samples import SPLITS, make_sample
from tfrecords_builder.splits import assign_folds, assign_splits, parse_shares

SHARES = parse_shares("train=70,validation=10,calibration=10,test=10")


def sample(name, patient="", grade=0, split=""):
    return make_sample(image_id=name, path=f"/photographs/{name}.jpg", patient_id=patient, grade=grade, split=split)


def cohort(seed=0, patients=120, eyes=2, published=("",)):
    """Samples of `patients` with one to `eyes` images each: most are healthy, and both eyes have similar grades."""
    rng = random.Random(seed)
    samples = []
    for patient in range(patients):
        grade, split = rng.choices(range(5), (50, 8, 25, 10, 7))[0], rng.choice(published)
        for eye in range(rng.randint(1, eyes)):
            own = min(4, grade + (rng.random() < 0.2))
            samples.append(sample(f"{patient}-{eye}", f"p{patient}", own, split))
    return samples


def split_of(samples):
    return {s.image_id: s.split for s in samples}


def roles(samples):
    found = collections.defaultdict(set)
    for s in samples:
        found[s.group].add(s.split)
    return found


# Few patients and names, so that patients have several photographs and often several published splits.
any_samples = st.lists(
    st.tuples(st.sampled_from(["", "p1", "p2", "p3", "p4", "p5"]), st.integers(-1, 4), st.sampled_from(("", *SPLITS))),
    min_size=1,
    max_size=40,
).map(lambda rows: [sample(f"image{i}", *row) for i, row in enumerate(rows)])


class SplitsTest(unittest.TestCase):
    @given(any_samples, st.integers(0, 3))
    @settings(max_examples=150, deadline=None)
    def test_patient_is_never_in_two_splits(self, samples, seed):
        placed, rejections = assign_splits(samples, SHARES, seed)
        self.assertTrue(all(len(splits) == 1 for splits in roles(placed).values()))
        self.assertTrue(all(s.split in SPLITS for s in placed))
        names = [s.image_id for s in placed] + [r.image_id for r in rejections]
        self.assertCountEqual(names, [s.image_id for s in samples], "each photograph is placed or rejected, once")

    @given(any_samples, st.integers(0, 3))
    @settings(max_examples=50, deadline=None)
    def test_published_test_and_validation_splits_stay(self, samples, seed):
        before = split_of(samples)
        for s in assign_splits(samples, SHARES, seed)[0]:
            if before[s.image_id] not in ("", "train"):
                self.assertEqual(s.split, before[s.image_id])

    def test_nothing_moves_into_a_published_split(self):
        samples = cohort(published=("train", "test"))
        placed, rejections = assign_splits(samples, SHARES, 0)
        self.assertEqual(rejections, [])
        published = {s.image_id for s in samples if s.split == "test"}
        self.assertEqual({s.image_id for s in placed if s.split == "test"}, published)
        counts = collections.Counter(s.split for s in placed)
        self.assertAlmostEqual(counts["validation"], (len(samples) - len(published)) / 9, delta=3)
        self.assertAlmostEqual(counts["calibration"], (len(samples) - len(published)) / 9, delta=3)

    def test_image_without_a_split_follows_its_patient_into_the_published_test_split(self):
        placed, rejections = assign_splits([sample("a", "p", split="test"), sample("b", "p"), sample("c")], SHARES, 0)
        self.assertEqual(split_of(placed)["b"], "test")
        self.assertEqual(rejections, [])

    def test_patient_of_the_published_test_split_who_is_also_in_train_is_rejected_there(self):
        placed, rejections = assign_splits(
            [sample("a", "p", split="train"), sample("b", "p", split="test"), sample("c", split="train")], SHARES, 0
        )
        self.assertEqual([r.image_id for r in rejections], ["a"])
        self.assertEqual(rejections[0].reason, "published in train, but its patient p is also in test")
        self.assertEqual(rejections[0].path, "/photographs/a.jpg")
        self.assertEqual(split_of(placed)["b"], "test")

    def test_shares_are_met_overall_and_for_each_grade(self):
        for seed in range(5):
            samples = cohort(seed)
            placed, _ = assign_splits(samples, SHARES, seed)
            for grade in (None, *range(5)):
                of_grade = [s for s in placed if grade in (None, s.grade)]
                counts = collections.Counter(s.split for s in of_grade)
                for split in SPLITS:
                    with self.subTest(seed=seed, grade=grade, split=split):
                        self.assertAlmostEqual(counts[split], SHARES[split] * len(of_grade), delta=2.5)

    def test_the_first_few_images_of_each_grade_go_to_train(self):
        # Once each split got one photograph of every grade before train got its second.
        samples = [sample(f"{grade}-{i}", grade=grade) for grade in range(5) for i in range(4)]
        counts = collections.Counter(s.split for s in assign_splits(samples, SHARES, 0)[0])
        self.assertGreaterEqual(counts["train"], 12)
        self.assertGreaterEqual(min(counts[split] for split in SPLITS), 1)

    def test_large_families_are_not_all_in_train(self):
        samples = [sample(f"{p}-{i}", f"p{p}") for p in range(40) for i in range(4)]
        samples += [sample(f"single{i}") for i in range(160)]
        placed, _ = assign_splits(samples, SHARES, 0)
        singles = collections.Counter(s.split for s in placed if not s.patient_id)
        families = collections.Counter(s.split for s in placed if s.patient_id)
        for split in SPLITS:
            self.assertAlmostEqual(singles[split], families[split], delta=8)

    def test_same_seed_same_result_whatever_the_order(self):
        samples = cohort(published=("", "", "train", "test"))
        shuffled = random.Random(5).sample(samples, len(samples))
        placed, placed_shuffled = (assign_splits(s, SHARES, 3)[0] for s in (samples, shuffled))
        self.assertEqual(split_of(placed), split_of(placed_shuffled))
        self.assertEqual(assign_folds(placed, 5, 3), assign_folds(placed_shuffled, 5, 3))

    def test_another_seed_another_result(self):
        samples = cohort()
        one, other = (assign_splits(samples, SHARES, seed)[0] for seed in (0, 1))
        self.assertNotEqual(split_of(one), split_of(other))
        self.assertNotEqual(assign_folds(one, 5, 0), assign_folds(one, 5, 1))

    def test_each_image_of_an_unknown_patient_is_a_patient_of_its_own(self):
        placed, _ = assign_splits([sample(f"a{i}") for i in range(100)], SHARES, 0)
        self.assertEqual(collections.Counter(s.split for s in placed)["train"], 70)

    def test_ungraded_images_are_balanced_by_any_dr(self):
        samples = [make_sample(image_id=f"i{i}", path="x", any_dr=int(i % 4 == 0)) for i in range(200)]
        placed, _ = assign_splits(samples, SHARES, 0)
        self.assertEqual(sum(s.any_dr for s in placed if s.split == "test"), 5)


class FoldsTest(unittest.TestCase):
    def setUp(self):
        self.samples, _ = assign_splits(cohort(1), SHARES, 0)
        self.folds = assign_folds(self.samples, 5, 0)

    def test_folds_cover_everything_but_test(self):
        self.assertEqual(set(self.folds), {s.image_id for s in self.samples if s.split != "test"})
        self.assertEqual(set(self.folds.values()), set(range(5)))

    def test_a_patient_is_in_one_fold(self):
        found = collections.defaultdict(set)
        for s in self.samples:
            if s.image_id in self.folds:
                found[s.group].add(self.folds[s.image_id])
        self.assertTrue(all(len(folds) == 1 for folds in found.values()))

    def test_grades_and_sizes_are_balanced(self):
        sizes = collections.Counter(self.folds.values())
        self.assertLessEqual(max(sizes.values()) - min(sizes.values()), 3)
        for grade in range(5):
            counts = collections.Counter(
                self.folds[s.image_id] for s in self.samples if s.grade == grade and s.image_id in self.folds
            )
            self.assertLessEqual(max(counts.values()) - min(counts[f] for f in range(5)), 3, f"grade {grade}")

    def test_the_remainders_of_all_grades_are_not_in_one_fold(self):
        folds = assign_folds([sample(f"{grade}", grade=grade) for grade in range(5)], 5, 0)
        self.assertEqual(sorted(folds.values()), [0, 1, 2, 3, 4])

    def test_a_test_split_alone_has_no_folds(self):
        self.assertEqual(assign_folds([sample("a", split="test")], 5, 0), {})


class ParseSharesTest(unittest.TestCase):
    def test_shares_sum_to_one(self):
        self.assertEqual(
            parse_shares(" train = 6, test=2 "), {"train": 0.75, "validation": 0, "calibration": 0, "test": 0.25}
        )

    def test_invalid_shares_are_quoted_in_the_error(self):
        for text in (
            "", "train", "train=", "train=a", "train=1=2", "training=1", "train=-1,test=2", "train=0", "train=nan",
            "train=inf,test=1", "train=1,train=2", "train=1,,test=1",
        ):  # fmt: skip
            with self.subTest(text), self.assertRaises(UserError) as caught:
                parse_shares(text)
            self.assertIn(repr(text), str(caught.exception))

    def test_no_share_for_images_without_a_split_is_an_error(self):
        samples = [sample("a", split="test"), sample("b")]
        with self.assertRaisesRegex(UserError, "leaves no split"):
            assign_splits(samples, parse_shares("test=1"), 0)


if __name__ == "__main__":
    unittest.main()
