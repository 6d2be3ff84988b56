import unittest

import numpy as np

from dr_tf.inference.test_time_augmentation import VIEW_COUNTS, augmented_view

MIRRORED, ROTATED = (1, 2, 4, 7), (0, 3, 5, 6)  # an odd and an even number of reflections


def both(left=(0, 1, 2, 3), right=(4, 5, 6, 7), present=(True, False)):
    """A batch of one pair of images of 2 x 2 pixels."""
    photographs = {"left": np.reshape(left, (1, 2, 2, 1)), "right": np.reshape(right, (1, 2, 2, 1))}
    return photographs | {f"{eye}_present": np.array([there]) for eye, there in zip(photographs, present, strict=True)}


class ViewTest(unittest.TestCase):
    def test_by_hand(self):
        x = np.arange(4).reshape(1, 2, 2, 1)  # 0 1 / 2 3
        expected = ["0123", "1032", "2301", "3210", "0213", "2031", "1302", "3120"]
        self.assertEqual(["".join(map(str, augmented_view(x, i).ravel())) for i in range(8)], expected)

    def test_each_count_is_a_group(self):
        x = np.arange(9).reshape(1, 3, 3, 1)
        for count in VIEW_COUNTS:
            views_seen = {augmented_view(x, i).tobytes() for i in range(count)}
            self.assertEqual(len(views_seen), count)
            for i in range(count):
                self.assertEqual({augmented_view(augmented_view(x, i), j).tobytes() for j in range(count)}, views_seen)


class PairTest(unittest.TestCase):
    def test_a_rotated_pair_keeps_its_eyes(self):
        views_seen = augmented_view(both(), 3)
        self.assertEqual(
            (views_seen["left"].ravel().tolist(), views_seen["right"].ravel().tolist()), ([3, 2, 1, 0], [7, 6, 5, 4])
        )
        self.assertEqual((views_seen["left_present"].tolist(), views_seen["right_present"].tolist()), ([True], [False]))

    def test_a_mirrored_pair_swaps_its_eyes(self):
        views_seen = augmented_view(both(), 1)
        self.assertEqual(
            (views_seen["left"].ravel().tolist(), views_seen["right"].ravel().tolist()), ([5, 4, 7, 6], [1, 0, 3, 2])
        )
        self.assertEqual((views_seen["left_present"].tolist(), views_seen["right_present"].tolist()), ([False], [True]))

    def test_views_with_an_odd_number_of_reflections_swap_the_eyes(self):
        for views, swapped in ((MIRRORED, True), (ROTATED, False)):
            for number in views:
                with self.subTest(number):
                    views_seen = augmented_view(both(), number)
                    self.assertEqual(set(views_seen), set(both()))
                    self.assertEqual(min(views_seen["left"].ravel()) == 4, swapped)
                    self.assertEqual(views_seen["right_present"].tolist(), [swapped])

    def test_each_count_is_a_group_of_pairs(self):
        def key(pair):
            return tuple((name, pair[name].tobytes()) for name in sorted(pair))

        for count in VIEW_COUNTS:
            views_seen = {key(augmented_view(both(), i)) for i in range(count)}
            self.assertEqual(len(views_seen), count)
            for i in range(count):
                self.assertEqual({key(augmented_view(augmented_view(both(), i), j)) for j in range(count)}, views_seen)


if __name__ == "__main__":
    unittest.main()
