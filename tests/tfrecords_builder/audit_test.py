"""Decisions of the leak audit, from pairs made by hand."""

import unittest

from dr_tf.console import UserError
from tfrecords_builder.audit import (
    DisjointSets,
    ImagePair,
    count_pairs,
    refuse_pairs_across_splits,
    resolve_pairs,
    with_assigned_splits,
)
from tfrecords_builder.samples import make_sample
from tfrecords_builder.splits import assign_folds, assign_splits, parse_shares


def sample(name, **fields):
    return make_sample(image_id=name, path=f"/source/{name}.jpg", **fields)


def resolved(samples, *pairs, scores=None):
    return resolve_pairs(
        samples, {s.image_id: (scores or {}).get(s.image_id, 0.5) for s in samples}, [ImagePair(*p) for p in pairs]
    )


def kept(result):
    return [s.image_id for s in result.samples]


def reasons(result):
    return {r.image_id: r.reason for r in result.rejections}


class ResolvePairsTest(unittest.TestCase):
    def test_without_pairs_nothing_changes(self):
        samples = [sample("a", grade=1), sample("b", grade=2)]
        result = resolved(samples)
        self.assertEqual((result.samples, result.rejections, result.groups, result.rows), (samples, [], {}, []))

    def test_the_most_gradable_of_equal_copies_stays(self):
        samples = [sample(name, grade=2) for name in "abc"]
        pairs = (("a", "b", "copy", 0.01), ("b", "c", "exact", 0.0))
        result = resolved(samples, *pairs, scores={"b": 0.9})
        self.assertEqual(kept(result), ["b"])
        self.assertEqual(set(reasons(result).values()), {"copy of b, which is kept"})
        self.assertEqual(result.rows[0][-1], "rejected a")

    def test_among_equally_gradable_ones_the_first_name_stays(self):
        result = resolved([sample(n) for n in "ba"], ("b", "a", "copy", 0.01), scores={"a": 0.701, "b": 0.702})
        self.assertEqual(kept(result), ["a"])

    def test_copies_with_different_labels_are_all_rejected(self):
        for field, one, two in (("grade", 1, 2), ("dme", 0, 1), ("any_dr", 0, 1)):
            with self.subTest(field=field):
                result = resolved([sample("a", **{field: one}), sample("b", **{field: two})], ("a", "b", "exact", 0.0))
                self.assertEqual(kept(result), [])
                self.assertIn(f"{field} {one} here, {two} there", reasons(result)["a"])
                self.assertIn("copy of a, with a different label", reasons(result)["b"])

    def test_an_unknown_label_is_no_conflict(self):
        result = resolved([sample("a", grade=1), sample("b")], ("a", "b", "copy", 0.01))
        self.assertEqual(len(kept(result)), 1)

    def test_an_unlabelled_copy_of_two_conflicting_images_is_rejected(self):
        samples = [sample("a", grade=1), sample("b", grade=2), sample("c")]
        result = resolved(samples, ("a", "b", "copy", 0.01), ("b", "c", "copy", 0.01))
        self.assertEqual(kept(result), [])
        self.assertEqual(reasons(result)["c"], "copy of a, b, whose labels contradict each other")

    def test_published_test_images_are_flagged_and_never_rejected(self):
        samples = [sample("a", grade=0, split="train"), sample("t", grade=3, split="test")]
        result = resolved(samples, ("a", "t", "exact", 0.0))
        self.assertEqual([(s.image_id, s.test_copy) for s in result.samples], [("t", "a")])
        self.assertIn("copy of t in the published test split", reasons(result)["a"])
        self.assertIn("grade 0 here, 3 there", reasons(result)["a"])
        self.assertEqual(result.rows[0][-1], "rejected a; flagged t")

    def test_copies_within_the_published_test_split_stay_and_the_later_is_flagged(self):
        samples = [sample(n, grade=g, split="test") for n, g in (("s", 1), ("t", 2))]
        result = resolved(samples, ("s", "t", "copy", 0.01))
        self.assertEqual([(s.image_id, s.test_copy) for s in result.samples], [("s", ""), ("t", "s")])
        self.assertEqual(result.rejections, [])

    def test_of_copies_in_validation_and_train_the_one_in_validation_stays(self):
        samples = [sample("a", split="train"), sample("v", split="validation")]
        self.assertEqual(kept(resolved(samples, ("a", "v", "copy", 0.01), scores={"a": 0.9})), ["v"])

    def test_images_of_the_same_eye_stay_in_the_same_split_and_fold(self):
        samples = [sample(f"p{i}", grade=i % 3) for i in range(60)]
        result = resolved(samples, ("p1", "p17", "same_eye", 0.05), ("p17", "p40", "same_eye", 0.05))
        self.assertEqual(len(kept(result)), 60)
        self.assertEqual(result.rows[0][-1], "kept together")
        shares = parse_shares("train=40,validation=20,calibration=20,test=20")
        for seed in range(8):
            dealt, _ = assign_splits(samples, shares, seed, result.groups)
            split = {s.image_id: s.split for s in dealt}
            self.assertEqual(len({split[n] for n in ("p1", "p17", "p40")}), 1)
            everything = [sample(s.image_id, grade=s.grade) for s in samples]
            fold = assign_folds(everything, 5, seed, result.groups)
            self.assertEqual(len({fold[n] for n in ("p1", "p17", "p40")}), 1)

    def test_all_images_of_two_patients_who_share_an_eye_stay_together(self):
        samples = [sample(f"{p}{e}", patient_id=p) for p in "pqr" for e in "12"]
        groups = resolved(samples, ("p1", "q2", "same_eye", 0.05)).groups
        self.assertEqual(len({groups[n] for n in ("p1", "p2", "q1", "q2")}), 1)
        self.assertNotIn("r1", groups)

    def test_the_same_eye_in_published_test_and_train_is_reported_and_stays(self):
        samples = [sample("a", split="train"), sample("t", split="test")]
        result = resolved(samples, ("a", "t", "same_eye", 0.05))
        self.assertEqual((kept(result), result.groups), (["a", "t"], {}))
        self.assertEqual(result.rows[0][-1], "kept as published")

    def test_an_image_without_a_split_joins_the_published_validation_split_of_its_eye(self):
        samples = [sample("v", split="validation"), *(sample(f"f{i}") for i in range(20))]
        groups = resolved(samples, ("v", "f3", "same_eye", 0.05)).groups
        dealt, _ = assign_splits(samples, parse_shares("train=80,test=20"), 0, groups)
        self.assertEqual({s.image_id: s.split for s in dealt}["f3"], "validation")

    def test_strict_names_the_pairs_across_published_splits(self):
        samples = [sample("a", split="train"), sample("t", split="test"), sample("b", split="train")]
        result = resolved(samples, ("a", "t", "same_eye", 0.05), ("a", "b", "copy", 0.01))
        with self.assertRaisesRegex(UserError, r"1 pairs cross .*: a \(train\) and t \(test\): same_eye$"):
            refuse_pairs_across_splits(result)
        refuse_pairs_across_splits(resolved(samples, ("a", "b", "copy", 0.01)))

    def test_rows_contain_the_assigned_splits(self):
        samples = [sample("a"), sample("b", split="train"), sample("c", split="train")]
        result = resolved(samples, ("a", "b", "same_eye", 0.05), ("b", "c", "copy", 0.01))
        dealt = [sample("a", split="validation"), sample("b", split="validation")]
        self.assertEqual(
            [r[5:7] for r in with_assigned_splits(result.rows, dealt)],
            [("validation", "validation"), ("validation", "train")],
        )

    def test_counts(self):
        samples = {s.image_id: s for s in (sample("a", grade=0, split="train"), sample("t", grade=1, split="test"))}
        pairs = [ImagePair("a", "t", kind, 0.0) for kind in ("exact", "copy", "same_eye")]
        self.assertEqual(
            count_pairs(pairs, samples),
            {"exact": 1, "near": 1, "same eye": 1, "across splits": 3, "label conflicts": 2},
        )

    def test_representative_is_the_least_member_whatever_the_order_of_joining(self):
        for order in ((("c", "b"), ("b", "a"), ("d", "c")), (("d", "c"), ("c", "b"), ("b", "a"))):
            groups = DisjointSets()
            for pair in order:
                groups.join(*pair)
            self.assertEqual({groups.find(m) for m in "abcd"}, {"a"})


if __name__ == "__main__":
    unittest.main()
