"""How records were made is read from their name."""

import unittest

from dr_tf.console import UserError
from dr_tf.inference.preparation import Preparation


class NameTest(unittest.TestCase):
    def test_of_one_set_and_of_several_that_were_made_alike(self):
        for name in ("idrid/512-clahe-q95", "idrid/512-clahe-q95+odir/512-clahe-q95"):
            expected = Preparation(name, size=512, enhancement="clahe", quality=95, image_size=224)
            self.assertEqual(Preparation.of_records(name, 224), expected)

    def test_a_name_that_does_not_say_it(self):
        for name in ("drawn/plain", "idrid/512-sharp-q95", "idrid/512-clahe-q95+odir/512-plain-q95"):
            with self.subTest(name), self.assertRaisesRegex(UserError, "does not say how they were made"):
                Preparation.of_records(name, 224)


if __name__ == "__main__":
    unittest.main()
