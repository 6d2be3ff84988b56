"""Checkpoints: a restored run equals an uninterrupted one, and half-written checkpoints are not used."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.training.checkpoints import Checkpoints, averaged_weights, model_weights, training_state
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
    x = np.random.default_rng(steps).normal(size=(8, 2))
    for _ in range(steps):
        model.train_on_batch(x, np.zeros((8, 3)))


class CheckpointsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.checkpoints = Checkpoints(pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "checkpoints")

    def test_a_restored_run_continues_bit_for_bit(self):
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
        for name, value in training_state(model).items():
            self.assertAllEqual(training_state(other)[name], value, msg=name)

    def test_the_newest_two_are_kept(self):
        model = _model()
        for epochs in range(1, 5):
            self.checkpoints.save(model, [{}] * epochs)
        self.assertEqual(sorted(p.name for p in self.checkpoints.directory.iterdir()), ["epoch-00003", "epoch-00004"])

    def test_a_half_written_checkpoint_is_not_used(self):
        model = _model()
        self.checkpoints.save(model, [{"loss": 1.0}])
        half = self.checkpoints.directory / ".unfinished-17-epoch-00002"
        half.mkdir()
        (half / "variables.npz").write_bytes(b"PK")
        self.assertLen(self.checkpoints.restore(_model())[0], 1)
        self.assertFalse(half.exists())

    def test_without_checkpoints(self):
        self.assertEqual(self.checkpoints.restore(_model()), ([], None))

    def test_errors_are_one_line(self):
        self.checkpoints.save(_model(), [{}])
        with self.assertRaisesRegex(UserError, "is a checkpoint of another model"):
            self.checkpoints.restore(_model(units=4))
        (self.checkpoints.directory / "epoch-00001" / "variables.npz").write_bytes(b"broken")
        with self.assertRaisesRegex(UserError, "cannot be read"):
            self.checkpoints.restore(_model())

    def test_averaged_weights(self):
        model = _model(ema=0.5, optimizer="sgd", learning_rate=0.1)
        averages = None
        for _ in range(3):
            _fit(model, 1)
            now = model_weights(model)
            averages = now if averages is None else {k: (averages[k] + v) / 2 for k, v in now.items()}
        found = averaged_weights(model)
        trainable = {id(v) for v in model.trainable_variables}
        for variable, (name, value) in zip(model.variables, found.items(), strict=True):
            expected = averages if id(variable) in trainable else model_weights(model)
            self.assertAllClose(value, expected[name], msg=variable.path)
