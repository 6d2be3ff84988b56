"""Optimizer settings: schedules, rate factors, weight decay, accumulation and clipping by hand."""

import keras
import numpy as np
import tensorflow as tf

from dr_tf.training.optimization import Optimization


def _model():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, name="low")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="high")(hidden))


def _step(optimization, rate_factors=None, steps=1):
    """Change of each variable after some steps."""
    model = _model()
    before = [v.numpy() for v in model.trainable_variables]
    optimizer = optimization.build(steps_per_epoch=1, epochs=10, rate_factors=rate_factors)
    model.compile(optimizer, "mse")
    for _ in range(steps):
        model.train_on_batch(np.ones((4, 3)), np.zeros((4, 2)))
    return {v.path: v.numpy() - b for v, b in zip(model.trainable_variables, before, strict=True)}


class OptimizationTest(tf.test.TestCase):
    def test_warm_up_then_cosine(self):
        schedule = Optimization(learning_rate=2.0, decay="cosine", warmup_epochs=2).schedule(10, 12)
        self.assertAllClose([float(schedule(i)) for i in (0, 10, 20, 70, 120)], [0, 1, 2, 1, 0])

    def test_warm_up_then_constant(self):
        schedule = Optimization(learning_rate=2.0, warmup_epochs=1).schedule(4, 5)
        self.assertAllClose([float(schedule(i)) for i in (0, 2, 4, 12, 20)], [0, 1, 2, 2, 2])

    def test_accumulated_steps_are_one_update_of_the_schedule(self):
        schedule = Optimization(learning_rate=1.0, decay="cosine", accumulation_steps=2).schedule(10, 2)
        self.assertAllClose(float(schedule(5)), 0.5)

    def test_a_tenth_of_the_rate_is_a_tenth_of_the_update(self):
        for name in ("adam", "adamw", "sgd"):
            whole = _step(Optimization(optimizer=name, weight_decay=0.1))
            scaled = _step(Optimization(optimizer=name, weight_decay=0.1), {"low/kernel": 0.1, "low/bias": 0.1})
            self.assertAllClose(scaled["low/kernel"], 0.1 * whole["low/kernel"], rtol=1e-3, atol=1e-7)
            self.assertAllClose(scaled["low/bias"], 0.1 * whole["low/bias"], rtol=1e-3, atol=1e-7)
            self.assertAllClose(scaled["high/kernel"], whole["high/kernel"])

    def test_biases_are_not_decayed(self):
        model = _model()
        optimizer = Optimization(optimizer="adamw", learning_rate=0.1, weight_decay=0.5).build(
            steps_per_epoch=1, epochs=1
        )
        optimizer.build(model.trainable_variables)
        model.get_layer("low").bias.assign(np.ones(4))
        kernel = model.get_layer("low").kernel.numpy()
        optimizer.apply([tf.zeros(v.shape) for v in model.trainable_variables])
        self.assertAllClose(model.get_layer("low").kernel, kernel * (1 - 0.1 * 0.5))
        self.assertAllClose(model.get_layer("low").bias, np.ones(4))

    def test_two_accumulated_steps_equal_one_step_with_their_mean(self):
        accumulated = _step(Optimization(optimizer="sgd", accumulation_steps=2), steps=2)
        self.assertAllClose(accumulated, _step(Optimization(optimizer="sgd")), atol=1e-7)

    def test_gradients_are_clipped_by_their_global_norm(self):
        moved = _step(Optimization(optimizer="sgd", learning_rate=1.0, clip_norm=0.5))
        self.assertAllClose(np.sqrt(sum((v**2).sum() for v in moved.values())), 0.5)

    def test_rate_factors_by_stage(self):
        stages = {"a": "stem", "b": "top"}
        found = Optimization(backbone_rate=0.1, stage_decay=0.5).rate_factors(stages, ["stem", "top"])
        self.assertAllClose(found, {"a": 0.05, "b": 0.1})
        self.assertIsNone(Optimization().rate_factors(stages, ["stem", "top"]))
