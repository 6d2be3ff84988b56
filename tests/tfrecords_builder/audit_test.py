"""What the leak audit decides, by hand-made pairs."""

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


def decided(samples, *pairs, scores=None):
    return resolve_pairs(
        samples, {s.image_id: (scores or {}).get(s.image_id, 0.5) for s in samples}, [ImagePair(*p) for p in pairs]
    )


def kept(verdict):
    return [s.image_id for s in verdict.samples]


def reasons(verdict):
    return {r.image_id: r.reason for r in verdict.rejections}


class ResolvePairsTest(unittest.TestCase):
    def test_without_pairs_nothing_changes(self):
        samples = [sample("a", grade=1), sample("b", grade=2)]
        verdict = decided(samples)
        self.assertEqual((verdict.samples, verdict.rejections, verdict.groups, verdict.rows), (samples, [], {}, []))

    def test_the_most_gradable_of_equal_copies_stays(self):
        samples = [sample(name, grade=2) for name in "abc"]
        pairs = (("a", "b", "copy", 0.01), ("b", "c", "exact", 0.0))
        verdict = decided(samples, *pairs, scores={"b": 0.9})
        self.assertEqual(kept(verdict), ["b"])
        self.assertEqual(set(reasons(verdict).values()), {"copy of b, which is kept"})
        self.assertEqual(verdict.rows[0][-1], "rejected a")

    def test_among_equally_gradable_ones_the_first_name_stays(self):
        verdict = decided([sample(n) for n in "ba"], ("b", "a", "copy", 0.01), scores={"a": 0.701, "b": 0.702})
        self.assertEqual(kept(verdict), ["a"])

    def test_copies_with_different_labels_are_all_kept_out(self):
        for field, one, two in (("grade", 1, 2), ("dme", 0, 1), ("any_dr", 0, 1)):
            with self.subTest(field=field):
                verdict = decided([sample("a", **{field: one}), sample("b", **{field: two})], ("a", "b", "exact", 0.0))
                self.assertEqual(kept(verdict), [])
                self.assertIn(f"{field} {one} here, {two} there", reasons(verdict)["a"])
                self.assertIn("copy of a, with a different label", reasons(verdict)["b"])

    def test_a_label_that_is_not_known_contradicts_nothing(self):
        verdict = decided([sample("a", grade=1), sample("b")], ("a", "b", "copy", 0.01))
        self.assertEqual(len(kept(verdict)), 1)

    def test_a_copy_without_labels_of_two_that_differ_is_kept_out_too(self):
        samples = [sample("a", grade=1), sample("b", grade=2), sample("c")]
        verdict = decided(samples, ("a", "b", "copy", 0.01), ("b", "c", "copy", 0.01))
        self.assertEqual(kept(verdict), [])
        self.assertEqual(reasons(verdict)["c"], "copy of a, b, whose labels contradict each other")

    def test_published_test_is_never_thinned_only_flagged(self):
        samples = [sample("a", grade=0, split="train"), sample("t", grade=3, split="test")]
        verdict = decided(samples, ("a", "t", "exact", 0.0))
        self.assertEqual([(s.image_id, s.test_copy) for s in verdict.samples], [("t", "a")])
        self.assertIn("copy of t in the published test split", reasons(verdict)["a"])
        self.assertIn("grade 0 here, 3 there", reasons(verdict)["a"])
        self.assertEqual(verdict.rows[0][-1], "rejected a; flagged t")

    def test_copies_within_published_test_all_stay_and_the_later_is_flagged(self):
        samples = [sample(n, grade=g, split="test") for n, g in (("s", 1), ("t", 2))]
        verdict = decided(samples, ("s", "t", "copy", 0.01))
        self.assertEqual([(s.image_id, s.test_copy) for s in verdict.samples], [("s", ""), ("t", "s")])
        self.assertEqual(verdict.rejections, [])

    def test_validation_keeps_its_photograph_rather_than_train(self):
        samples = [sample("a", split="train"), sample("v", split="validation")]
        self.assertEqual(kept(decided(samples, ("a", "v", "copy", 0.01), scores={"a": 0.9})), ["v"])

    def test_one_eye_twice_stays_and_stays_together(self):
        samples = [sample(f"p{i}", grade=i % 3) for i in range(60)]
        verdict = decided(samples, ("p1", "p17", "same_eye", 0.05), ("p17", "p40", "same_eye", 0.05))
        self.assertEqual(len(kept(verdict)), 60)
        self.assertEqual(verdict.rows[0][-1], "kept together")
        shares = parse_shares("train=40,validation=20,calibration=20,test=20")
        for seed in range(8):
            dealt, _ = assign_splits(samples, shares, seed, verdict.groups)
            split = {s.image_id: s.split for s in dealt}
            self.assertEqual(len({split[n] for n in ("p1", "p17", "p40")}), 1)
            everything = [sample(s.image_id, grade=s.grade) for s in samples]
            fold = assign_folds(everything, 5, seed, verdict.groups)
            self.assertEqual(len({fold[n] for n in ("p1", "p17", "p40")}), 1)

    def test_patients_of_one_eye_stay_together_with_all_their_photographs(self):
        samples = [sample(f"{p}{e}", patient_id=p) for p in "pqr" for e in "12"]
        groups = decided(samples, ("p1", "q2", "same_eye", 0.05)).groups
        self.assertEqual(len({groups[n] for n in ("p1", "p2", "q1", "q2")}), 1)
        self.assertNotIn("r1", groups)

    def test_one_eye_in_published_test_and_train_is_told_but_stays(self):
        samples = [sample("a", split="train"), sample("t", split="test")]
        verdict = decided(samples, ("a", "t", "same_eye", 0.05))
        self.assertEqual((kept(verdict), verdict.groups), (["a", "t"], {}))
        self.assertEqual(verdict.rows[0][-1], "kept as published")

    def test_without_a_split_an_eye_joins_its_published_validation(self):
        samples = [sample("v", split="validation"), *(sample(f"f{i}") for i in range(20))]
        groups = decided(samples, ("v", "f3", "same_eye", 0.05)).groups
        dealt, _ = assign_splits(samples, parse_shares("train=80,test=20"), 0, groups)
        self.assertEqual({s.image_id: s.split for s in dealt}["f3"], "validation")

    def test_strict_names_what_crosses_published_splits(self):
        samples = [sample("a", split="train"), sample("t", split="test"), sample("b", split="train")]
        verdict = decided(samples, ("a", "t", "same_eye", 0.05), ("a", "b", "copy", 0.01))
        with self.assertRaisesRegex(UserError, r"1 pairs cross .*: a \(train\) and t \(test\): same_eye$"):
            refuse_pairs_across_splits(verdict)
        refuse_pairs_across_splits(decided(samples, ("a", "b", "copy", 0.01)))

    def test_rows_show_the_split_that_was_dealt(self):
        samples = [sample("a"), sample("b", split="train"), sample("c", split="train")]
        verdict = decided(samples, ("a", "b", "same_eye", 0.05), ("b", "c", "copy", 0.01))
        dealt = [sample("a", split="validation"), sample("b", split="validation")]
        self.assertEqual(
            [r[5:7] for r in with_assigned_splits(verdict.rows, dealt)],
            [("validation", "validation"), ("validation", "train")],
        )

    def test_counts(self):
        samples = {s.image_id: s for s in (sample("a", grade=0, split="train"), sample("t", grade=1, split="test"))}
        pairs = [ImagePair("a", "t", kind, 0.0) for kind in ("exact", "copy", "same_eye")]
        self.assertEqual(
            count_pairs(pairs, samples),
            {"exact": 1, "near": 1, "same eye": 1, "across splits": 3, "label conflicts": 2},
        )

    def test_groups_are_named_by_their_least_member_in_any_order(self):
        for order in ((("c", "b"), ("b", "a"), ("d", "c")), (("d", "c"), ("c", "b"), ("b", "a"))):
            groups = DisjointSets()
            for pair in order:
                groups.join(*pair)
            self.assertEqual({groups.find(m) for m in "abcd"}, {"a"})


if __name__ == "__main__":
    unittest.main()
