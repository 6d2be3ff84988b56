"""Signatures against the vectors of RFC 8032, and what is found in a folder that was changed."""

import pathlib
import shutil
import tempfile
import unittest
from unittest import mock

from dr_tf.console import UserError
from dr_tf.inference import ready
from dr_tf.inference.ready import PUBLIC_KEY, READY, check_released
from dr_tf.inference.run import load_run
from dr_tf.signed_files import SIGNATURE, SUMS, check_signed, verify

# Public key, message and signature of the tests 1 to 3 in section 7.1 of RFC 8032.
RFC_8032 = (
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
)  # fmt: skip


class VerifyTest(unittest.TestCase):
    def test_the_vectors_of_the_standard(self):
        for vector in RFC_8032:
            key, message, signature = map(bytes.fromhex, vector)
            self.assertTrue(verify(key, message, signature))
            self.assertFalse(verify(key, message + b"x", signature))

    def test_changed_signatures_and_keys(self):
        key, message, signature = map(bytes.fromhex, RFC_8032[1])
        other_key = bytes.fromhex(RFC_8032[0][0])
        self.assertFalse(verify(other_key, message, signature))
        for at in range(64):
            changed = bytearray(signature)
            changed[at] ^= 1
            self.assertFalse(verify(key, message, bytes(changed)), at)
        order = 2**252 + 27742317777372353535851937790883648493
        larger = int.from_bytes(signature[32:], "little") + order  # the same point, and so a second signature
        for wrong in (
            b"",
            signature[:-1],
            signature + b"\0",
            signature[:32] + larger.to_bytes(32, "little"),
            bytes(64),
        ):
            self.assertFalse(verify(key, message, wrong))
        for no_point in (bytes([255] * 32), bytes([2] + [0] * 31), b"short"):
            self.assertFalse(verify(no_point, message, signature))


class ReadyTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "ready"
        shutil.copytree(READY, self.folder)

    def refused(self, expected):
        with self.assertRaisesRegex(UserError, f"{expected}: install dr_tf again$"):
            check_signed(self.folder, PUBLIC_KEY)

    def test_the_model_that_comes_with_dr_tf_is_signed(self):
        check_released(READY)
        check_signed(self.folder, PUBLIC_KEY)

    def test_a_changed_and_a_missing_file(self):
        decision = self.folder / "decision.json"
        content = decision.read_bytes()
        decision.write_bytes(content.replace(b"0", b"1", 1))
        self.refused("decision.json is not as it was released, its content was changed")
        decision.unlink()
        self.refused("decision.json is not as it was released, it is missing")

    def test_a_changed_list(self):
        sums = self.folder / SUMS
        sums.write_bytes(sums.read_bytes().replace(b"a", b"b", 1))
        self.refused("SHA256SUMS is not as it was released, its signature is not by the key of dr_tf")
        (self.folder / SIGNATURE).unlink()
        self.refused("SHA256SUMS.sig is not as it was released, it is missing")

    def test_it_is_checked_when_the_model_is_loaded(self):
        with mock.patch.object(ready, "READY", self.folder):
            load_run(self.folder)
            (self.folder / "gate.npz").write_bytes(b"x")
            with self.assertRaisesRegex(UserError, "gate.npz is not as it was released"):
                load_run(self.folder)


if __name__ == "__main__":
    unittest.main()
