"""What tells the risk of macular edema beside a run's network."""

import pathlib
import tempfile
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.decision import Decision
from dr_tf.inference.edema import Edema
from dr_tf.inference.run import EDEMA, read_edema, write_edema

# Two features, of which the first speaks for DME near the fovea.
MADE = Edema(np.float32([[0, 0, np.log(3)], [0, 0, 0]]), np.float32([np.log(2), 0, 0]))


def decision(**changes):
    return Decision(photograph="a", positive="referable", action="clear", gradable=True, **changes)


class EdemaTest(unittest.TestCase):
    def test_by_hand(self):
        """Odds 2 : 1 : 1, and 2 : 1 : 3 ** 2 once the first feature is 2."""
        features = np.array([[0, 5], [2, 5]])
        np.testing.assert_array_equal(MADE.risks(features), [0, 2])
        one, other = MADE.beside([decision(grade=1), decision(grade=3)], features)
        self.assertEqual((one.dme, other.dme, one.grade, other.grade), (0, 2, 1, 3))
        np.testing.assert_allclose(list(one.dme_probabilities.values()), [0.5, 0.25, 0.25], atol=1e-6)
        np.testing.assert_allclose(other.dme_probabilities["DME near the fovea"], 0.75, atol=1e-6)

    def test_not_told_of_what_is_not_gradable(self):
        dark = Decision(photograph="a", positive="referable", action="retake", gradable=False, reason="too dark")
        (told,) = MADE.beside([dark], np.full((1, 2), np.nan))
        self.assertEqual((told.dme, told.dme_probabilities), (None, {}))


class FileTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_it_comes_back(self):
        self.assertIsNone(read_edema(self.folder, 2))
        write_edema(self.folder, MADE)
        found = read_edema(self.folder, 2)
        np.testing.assert_array_equal(found.kernel, MADE.kernel)
        np.testing.assert_array_equal(found.bias, MADE.bias)

    def test_what_is_damaged_is_refused_in_one_line(self):
        arrays = {"kernel": MADE.kernel, "bias": MADE.bias}
        for changes in (
            {"kernel": MADE.kernel.T},
            {"kernel": MADE.kernel[0]},
            {"bias": np.float32(0)},
            {"kernel": MADE.kernel + np.nan},
            {"kernel": MADE.kernel.astype(int)},
            {"bias": np.array([None] * 3)},
        ):
            np.savez(self.folder / EDEMA, **arrays | changes)
            self._refused("dme.npz cannot be read: ", 2)
        np.savez(self.folder / EDEMA, kernel=MADE.kernel)
        self._refused("dme.npz cannot be read: ", 2)
        write_edema(self.folder, MADE)
        self._refused("reads 2 features, the network beside it has 3", 3)
        whole = (self.folder / EDEMA).read_bytes()
        for data in (b"", b"nothing", whole[: len(whole) // 2]):
            (self.folder / EDEMA).write_bytes(data)
            self._refused("dme.npz cannot be read: ", 2)

    def _refused(self, expected, width):
        with self.assertRaisesRegex(UserError, expected) as caught:
            read_edema(self.folder, width)
        self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
