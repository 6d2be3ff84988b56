"""A SavedModel from a stranger runs nothing: operators that touch files or have a state are refused before it is loaded."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from dr_tf.console import UserError
from dr_tf.export.saved_model import write_saved_model
from dr_tf.inference.export_file import Export, write_export
from dr_tf.inference.network import load_network

EXPORTED = Export("saved_model", "the mean", 16, 3, False, {"grade": 3}, "grade")
SIGNATURE = {"images": tf.TensorSpec([None, 16, 16, 3], tf.uint8, name="images")}


def mean(images):
    return tf.reduce_mean(tf.cast(images["images"], tf.float32), axis=(1, 2))


class SavedModelNetworkTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.canary = self.folder / "canary"
        write_export(self.folder, EXPORTED)

    def _write(self, effect=None):
        def compute(images):
            x = mean(images)
            if effect is not None:
                with tf.control_dependencies([effect()]):
                    x = tf.identity(x)
            return {"grade": tf.identity(x), "features": tf.identity(2 * x)}

        write_saved_model(self.folder / "saved_model", tf.function(compute, input_signature=[SIGNATURE]), SIGNATURE)

    def test_a_good_one(self):
        self._write()
        images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
        outputs, features = load_network(self.folder)(images)
        self.assertAllClose(outputs["grade"], images.mean(axis=(1, 2)), atol=1e-3)
        self.assertAllClose(features, 2 * images.mean(axis=(1, 2)), atol=1e-3)

    def test_operators_with_an_effect(self):
        for effect in (
            lambda: tf.io.write_file(str(self.canary), "the canary was run"),
            lambda: tf.io.read_file("/etc/hostname"),
            lambda: tf.print("the canary was run", output_stream=f"file://{self.canary}"),
        ):
            self._write(effect)
            with self.assertRaisesRegex(UserError, "is refused: its operator .* may have an effect"):
                load_network(self.folder)
            self.assertFalse(self.canary.exists())
            tf.io.gfile.rmtree(str(self.folder / "saved_model"))

    def test_an_operator_in_a_graph_of_tensorflow_1(self):
        """Loading it would run the operators that it names as its initialization."""
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            effect = tf.io.write_file(str(self.canary), "the canary was run")
            builder = tf.compat.v1.saved_model.Builder(str(self.folder / "saved_model/1"))
            builder.add_meta_graph_and_variables(session, ["serve"], main_op=effect)
            builder.save()
        with self.assertRaisesRegex(UserError, "is refused: TensorFlow 1 wrote it"):
            load_network(self.folder)
        self.assertFalse(self.canary.exists())

    def test_functions_under_the_names_of_the_saver(self):
        """The functions of TensorFlow's own saver write files, so they are not checked; nothing else may have such a name."""
        self._write(lambda: tf.io.write_file(str(self.canary), "the canary was run"))
        path = self.folder / "saved_model/1/saved_model.pb"
        model = SavedModel.FromString(path.read_bytes())
        text = text_format.MessageToString(model)
        functions = [function.signature.name for function in model.meta_graphs[0].graph_def.library.function]
        for number, name in enumerate(name for name in functions if "traced" not in name):
            text = text.replace(f'"{name}"', f'"__inference__traced_save_{number}"')
        path.write_bytes(text_format.Parse(text, SavedModel()).SerializeToString())
        with self.assertRaisesRegex(UserError, "is refused: it offers the function"):
            load_network(self.folder)
        self.assertFalse(self.canary.exists())

    def test_damaged_and_missing_files(self):
        with self.assertRaisesRegex(UserError, "cannot be read as a SavedModel: No such file"):
            load_network(self.folder)
        path = self.folder / "saved_model/1/saved_model.pb"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"\xff" * 30)
        with self.assertRaisesRegex(UserError, "damaged"):
            load_network(self.folder)


if __name__ == "__main__":
    tf.test.main()
