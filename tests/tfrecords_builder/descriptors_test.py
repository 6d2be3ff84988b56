"""Image signatures, candidate pairs and registration: copies are found, different eyes are not paired."""

import pathlib
import tempfile
import unittest
from unittest import mock

import cv2
import numpy as np

from dr_tf.fundus.prepare import prepare
from dr_tf.fundus.synthesis import render_patient
from tests.tfrecords_builder import trees
from tfrecords_builder import candidate_pairs
from tfrecords_builder.candidate_pairs import find_candidates
from tfrecords_builder.copy_search import SignatureIndex
from tfrecords_builder.descriptors import (
    DESCRIPTOR_LENGTH,
    ORIENTATIONS,
    VIEW_SIDE,
    compute_descriptor,
    compute_signature,
    normalize_view,
    reorient_descriptors,
    reorient_view,
)
from tfrecords_builder.image_registration import compare_views

COUNT = 12


def scaled(factor):
    return lambda rgb: cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def cut(left, top, right, bottom):
    def apply(rgb):
        height, width = rgb.shape[:2]
        rows = slice(round(top * height), height - round(bottom * height))
        return rgb[rows, round(left * width) : width - round(right * width)]

    return apply


# Name -> (transform, JPEG quality after it, its name in audit.csv).
TRANSFORMS = {
    "nothing": (lambda rgb: rgb, 92, ""),
    "a quarter": (scaled(0.25), 92, ""),
    "half": (scaled(0.5), 92, ""),
    "JPEG 30": (lambda rgb: rgb, 30, ""),
    "JPEG 60": (lambda rgb: rgb, 60, ""),
    "cut on all sides": (cut(0.05, 0.05, 0.05, 0.05), 92, ""),
    "cut left and top": (cut(0.05, 0.05, 0, 0), 92, ""),
    "darker": (lambda rgb: cv2.convertScaleAbs(rgb, alpha=0.7), 92, ""),
    "brighter": (lambda rgb: cv2.convertScaleAbs(rgb, alpha=1.3), 92, ""),
    "mirror": (lambda rgb: rgb[:, ::-1], 92, "mirror"),
    "mirror, upside down": (lambda rgb: rgb[::-1], 92, "mirror turn180"),
    "turn 90": (lambda rgb: cv2.rotate(rgb, cv2.ROTATE_90_CLOCKWISE), 92, "turn90"),
    "turn 180": (lambda rgb: cv2.rotate(rgb, cv2.ROTATE_180), 92, "turn180"),
    "turn 270": (lambda rgb: cv2.rotate(rgb, cv2.ROTATE_90_COUNTERCLOCKWISE), 92, "turn270"),
    "mirror, then turn 90": (
        lambda rgb: cv2.rotate(rgb[:, ::-1], cv2.ROTATE_90_CLOCKWISE), 92, "mirror turn90"),
    "mirror, then turn 270": (
        lambda rgb: cv2.rotate(rgb[:, ::-1], cv2.ROTATE_90_COUNTERCLOCKWISE), 92, "mirror turn270"),
}  # fmt: skip


def photographs(count=COUNT):
    """Yield both eyes of several synthetic patients, taken with different cameras, as arrays."""
    for seed in range(count // 2):
        yield from (eye.image for eye in render_patient(seed, side=400).eyes)


def signature_of(rgb, quality=95, size=256):
    data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    found = prepare(data, size=size)
    return compute_signature(found.image, found.geometry, f"{hash(data)}")


def pairs(signatures):
    """All pairs among named signatures."""
    with tempfile.TemporaryDirectory() as folder, SignatureIndex(pathlib.Path(folder) / "views") as index:
        for name, signature in signatures.items():
            index.add(name, signature)
        return index.find_pairs(workers=2)


class FindingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.photographs = list(photographs())
        cls.originals = {str(i): signature_of(rgb) for i, rgb in enumerate(cls.photographs)}

    def test_every_transform_of_every_image_is_found_and_named(self):
        changed = {
            f"{i} {name}": signature_of(change(rgb), quality)
            for i, rgb in enumerate(self.photographs)
            for name, (change, quality, _) in TRANSFORMS.items()
            if i < 4
        }
        found = {(p.a, p.b): p for p in pairs({**self.originals, **changed})}
        for i in range(4):
            for name, (_, _, transform) in TRANSFORMS.items():
                with self.subTest(photograph=i, transform=name):
                    pair = found[str(i), f"{i} {name}"]
                    self.assertEqual((pair.kind, pair.transform), ("copy", transform))
                    self.assertLess(pair.distance, 0.025)
        strange = [pair for pair in found if pair[0].split()[0] != pair[1].split()[0]]
        self.assertEqual(strange, [])

    def test_eyes_of_a_patient_and_of_others_do_not_match(self):
        self.assertEqual(pairs(self.originals), [])

    def test_the_same_eye_with_other_lesions_is_found(self):
        """The kind is not tested: the renderer repeats the illumination exactly, which no camera does."""
        healthy, ill = (render_patient(3, side=400, grades=grades) for grades in ((0, 0), (4, 4)))
        found = pairs({"healthy": signature_of(healthy.eyes[0].image), "ill": signature_of(ill.eyes[0].image)})
        self.assertEqual(len(found), 1)

    def test_equal_files_are_found_by_digest_alone(self):
        black = np.zeros((1, VIEW_SIDE, VIEW_SIDE), np.uint8)
        one = signature_of(self.photographs[0])
        same = type(one)("digest", black, np.zeros((1, DESCRIPTOR_LENGTH), np.float16))
        found = pairs({"a": same, "b": same, "c": same, "d": one})
        self.assertEqual(
            [(p.a, p.b, p.kind) for p in found], [("a", "b", "exact"), ("a", "c", "exact"), ("b", "c", "exact")]
        )

    def test_a_copy_of_one_of_two_equal_files_is_paired_with_both(self):
        copy = signature_of(scaled(0.5)(self.photographs[0]))
        first = self.originals["0"]
        kinds = {(p.a, p.b): p.kind for p in pairs({"a": first, "b": first, "c": copy})}
        self.assertEqual(kinds, {("a", "b"): "exact", ("a", "c"): "copy", ("b", "c"): "copy"})

    def test_an_empty_index_has_no_pairs(self):
        self.assertEqual(pairs({}), [])


class SameEyeTest(unittest.TestCase):
    def test_a_rotated_eye_under_other_illumination_is_the_same_eye(self):
        for seed in range(4):
            with self.subTest(seed=seed):
                first = trees.photograph(seed, 600, 480)
                found = pairs({"first": signature_of(first), "second": signature_of(_second(first))})
                self.assertEqual([p.kind for p in found], ["same_eye"])

    def test_a_rotation_by_less_than_a_degree_is_no_copy(self):
        """As between IDRiD's 013 and 397, which look like copies if they are aligned by translation only."""
        for seed in range(2):
            with self.subTest(seed=seed):
                first = trees.photograph(seed, 600, 480)
                move = cv2.getRotationMatrix2D((300, 240), 0.9, 1.0)
                turned = cv2.warpAffine(first, move, (600, 480), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
                darker = (turned * np.linspace(0.7, 0.8, 600)[:, None]).astype(np.uint8)
                found = pairs({"first": signature_of(first), "second": signature_of(darker)})
                self.assertEqual([p.kind for p in found], ["same_eye"])


def _second(rgb):
    """A second image of the same eye: rotated by two degrees, shifted, and lit from the side, within the same border."""
    height, width = rgb.shape[:2]
    move = cv2.getRotationMatrix2D((width / 2, height / 2), 2.0, 1.06)
    move[:, 2] += (4, -3)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    light = 0.8 + 0.35 * x / width + 0.1 * np.cos(y / 70)
    moved = cv2.warpAffine(rgb, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    within = np.hypot(x - width / 2, y - height / 2) < 0.43 * height
    return np.where(within[..., None], np.clip(moved * light[..., None], 0, 255), 0).astype(np.uint8)


class DescriptorTest(unittest.TestCase):
    def test_reoriented_descriptors_equal_descriptors_of_reoriented_views(self):
        view = signature_of(next(photographs())).views[0]
        plain = compute_descriptor(view)[None]
        for variant in ORIENTATIONS:
            expected = compute_descriptor(reorient_view(view, variant))
            self.assertTrue(np.allclose(reorient_descriptors(plain, variant)[0], expected, atol=1e-4), variant)

    def test_descriptors_are_invariant_to_brightness(self):
        view = signature_of(next(photographs())).views[0]
        dark = np.where(view > 0, np.maximum(view * 0.6, 1), 0).astype(np.uint8)
        self.assertGreater(float(compute_descriptor(view) @ compute_descriptor(dark)), 0.99)

    def test_a_uniform_view_has_a_finite_descriptor(self):
        for value in (0, 200):
            view = np.full((VIEW_SIDE, VIEW_SIDE), value, np.uint8)
            self.assertTrue(np.isfinite(normalize_view(view)[0]).all())
            self.assertTrue(np.isfinite(compute_descriptor(view)).all())
            self.assertEqual(compare_views(view, view).kind, "")

    def test_a_signature_is_small(self):
        found = signature_of(next(photographs()))
        self.assertLessEqual(found.views.nbytes, 3 * VIEW_SIDE**2)
        self.assertLessEqual(found.descriptors.nbytes, 3 * 2 * DESCRIPTOR_LENGTH)


class CandidatesTest(unittest.TestCase):
    def test_blocks_agree_with_all_pairs_at_once(self):
        rng = np.random.default_rng(0)
        descriptors = rng.normal(size=(300, DESCRIPTOR_LENGTH)).astype(np.float32)
        descriptors[200:240] = reorient_descriptors(descriptors[:40], (1, 0, 1)) + 0.3 * rng.normal(
            size=(40, DESCRIPTOR_LENGTH)
        )
        found = {tuple(row) for row in find_candidates(descriptors, np.arange(300)).tolist()}
        index = list(ORIENTATIONS).index((1, 1, 0))
        self.assertEqual(found, {(i, 200 + i, index) for i in range(40)})

    def test_only_pairs_across_record_sets(self):
        rng = np.random.default_rng(0)
        one = rng.normal(size=(1, DESCRIPTOR_LENGTH))
        descriptors = np.repeat(one, 4, 0)
        found = find_candidates(descriptors, np.arange(4), sets=["a", "a", "b", "b"])
        self.assertEqual({(a, b) for a, b, _ in found.tolist()}, {(0, 2), (0, 3), (1, 2), (1, 3)})

    def test_large_sets_are_searched_in_an_index_that_finds_the_same_copies(self):
        rng = np.random.default_rng(0)
        descriptors = rng.normal(size=(2600, DESCRIPTOR_LENGTH)).astype(np.float32)
        for number, orientation in enumerate(ORIENTATIONS):  # b of a copy before and after a
            copies = reorient_descriptors(descriptors[50 * number :][:50], orientation)
            descriptors[2000 + 50 * number :][:50] = copies + 0.4 * rng.normal(size=copies.shape)
        descriptors = descriptors[rng.permutation(2600)].astype(np.float16)
        exact = find_candidates(descriptors, np.arange(2600))
        with mock.patch.multiple(candidate_pairs, _MANY=1000, _SEARCHED_CELLS=20):
            found = find_candidates(descriptors, np.arange(2600))
        self.assertEqual(len(exact), 400)
        self.assertEqual(set(map(tuple, found.tolist())), set(map(tuple, exact.tolist())))

    def test_of_large_sets_the_most_similar_of_the_doubtful_pairs_are_kept(self):
        a, b, orientation = np.arange(6), np.arange(6) + 9, np.zeros(6, int)
        cosine = np.array([0.7, 0.9, 0.65, 0.75, 0.8, 0.61])
        kept = candidate_pairs._most_similar(a, b, orientation, cosine, count=2)
        self.assertEqual(kept[0].tolist(), [0, 1, 3, 4])

    def test_views_of_one_image_are_no_pair(self):
        one = np.repeat(np.random.default_rng(0).normal(size=(1, DESCRIPTOR_LENGTH)), 3, 0)
        self.assertEqual(find_candidates(one, [0, 0, 1])[:, :2].tolist(), [[0, 2]])


if __name__ == "__main__":
    unittest.main()
