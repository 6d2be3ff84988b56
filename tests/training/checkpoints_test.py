import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.training.checkpoints import Checkpoints, state_of, weights, weights_with_average
from dr_tf.training.optimization import Optimization


def _model(units=3, **options):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((2,)),
        keras.layers.Dense(units),
        keras.layers.Dropout(0.5),
        keras.layers.BatchNormalization(),
    ]
    model = keras.Sequential([*layers, keras.layers.Dropout(0.5)])
    model.compile(Optimization(**options).build(steps_per_epoch=4, epochs=2), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def _fit(model, steps):
    photographs = np.random.default_rng(steps).normal(size=(8, 2))
    for _ in range(steps):
        model.train_on_batch(photographs, np.zeros((8, 3)))


class CheckpointsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.checkpoints = Checkpoints(pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "checkpoints")

    def test_a_restored_run_goes_on_bit_for_bit(self):
        options = {"optimizer": "adamw", "decay": "cosine", "ema": 0.9, "accumulation_steps": 2}
        model = _model(**options)
        _fit(model, 3)
        self.checkpoints.save(model, [{"loss": 0.1}], {"a": np.ones(2)})
        _fit(model, 2)
        other = _model(**options)
        history, best = self.checkpoints.restore(other)
        _fit(other, 2)
        self.assertEqual(history, [{"loss": 0.1}])
        self.assertAllEqual(best["a"], np.ones(2))
        for name, value in state_of(model).items():
            self.assertAllEqual(state_of(other)[name], value, msg=name)

    def test_the_newest_two_stay(self):
        model = _model()
        for epochs in range(1, 5):
            self.checkpoints.save(model, [{}] * epochs)
        self.assertEqual(sorted(p.name for p in self.checkpoints.directory.iterdir()), ["epoch-00003", "epoch-00004"])

    def test_half_written_is_not_taken_for_whole(self):
        model = _model()
        self.checkpoints.save(model, [{"loss": 1.0}])
        half = self.checkpoints.directory / ".unfinished-17-epoch-00002"
        half.mkdir()
        (half / "variables.npz").write_bytes(b"PK")
        self.assertLen(self.checkpoints.restore(_model())[0], 1)
        self.assertFalse(half.exists())

    def test_nothing_there(self):
        self.assertEqual(self.checkpoints.restore(_model()), ([], None))

    def test_mistakes_in_one_line(self):
        self.checkpoints.save(_model(), [{}])
        with self.assertRaisesRegex(UserError, "of another model"):
            self.checkpoints.restore(_model(units=4))
        (self.checkpoints.directory / "epoch-00001" / "variables.npz").write_bytes(b"broken")
        with self.assertRaisesRegex(UserError, "cannot be read"):
            self.checkpoints.restore(_model())

    def test_average_of_weights(self):
        model = _model(ema=0.5, optimizer="sgd", learning_rate=0.1)
        averages = None
        for _ in range(3):
            _fit(model, 1)
            now = weights(model)
            averages = now if averages is None else {k: (averages[k] + v) / 2 for k, v in now.items()}
        found = weights_with_average(model)
        trainable = {id(v) for v in model.trainable_variables}
        for variable, (name, value) in zip(model.variables, found.items(), strict=True):
            expected = averages if id(variable) in trainable else weights(model)
            self.assertAllClose(value, expected[name], msg=variable.path)
