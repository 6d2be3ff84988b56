"""What libjpeg writes about damaged data does not reach the terminal."""

import pathlib
import shutil
import tempfile

import tensorflow as tf

from dr_tf.cli import contact_sheet
from dr_tf.console import captured_stderr
from tests import commands, tiny
from tests.tfrecords_builder.trees import run_builder, write_folder


def damaged(jpeg):
    """The file with some bytes of its pixels changed."""
    data = bytearray(jpeg)
    start = data.index(b"\xff\xda")
    for i in range(start + 40, start + 400, 5):
        data[i] ^= 0x5A
    return bytes(data)


class LibraryMessagesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_the_sheet_of_a_record_set(self):
        source = self.folder / "photographs"
        write_folder(source, splits=("train",), each=2)
        for path in sorted(source.rglob("*.jpg"))[::3]:
            path.write_bytes(damaged(path.read_bytes()))
        flags = ("--name", "x", "--classes", tiny.CLASSES, "--image_size", 64, "--workers", 1, "--audit", "off")
        with captured_stderr() as written:
            status, _, errors = run_builder(
                "folder", "--source", source, "--records", self.folder / "records", *flags, "--sheet", self.folder / "x.png"
            )  # fmt: skip
            self.assertEqual(status, 0, errors)
            self.assertNotIn(b"JPEG data", written())
        self.assertTrue((self.folder / "x.png").exists())

    def test_the_sheet_of_training_batches(self):
        records = self.folder / "records"
        shutil.copytree(tiny.records_root(), records)
        (shard,) = records.glob(f"{tiny.DATASET}/*/*train.tfrecord*")
        examples = [damaged(example.numpy()) for example in tf.data.TFRecordDataset(str(shard))]
        with tf.io.TFRecordWriter(str(shard)) as writer:
            for example in examples:
                writer.write(example)
        config = self.folder / "config.gin"
        config.write_text(tiny.CONFIG)
        flags = ("--gin_file", config, "--records", records, "--output", self.folder / "x.png", "--count", 5)
        with captured_stderr() as written:
            status, _, errors = commands.run(contact_sheet.main, *flags)
            self.assertNotIn(b"JPEG data", written())
        self.assertEqual(status, 2)
        self.assertIn("an image is damaged", errors)


if __name__ == "__main__":
    tf.test.main()
