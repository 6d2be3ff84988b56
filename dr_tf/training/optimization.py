"""Optimizer settings: learning-rate schedule, gradient clipping, weight averaging and layer-wise learning rates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import keras

from dr_tf.models.keras_private import OwnWeightDecay, index_of
from dr_tf.parameters import Count, Fraction, NotNegative, Positive, Share

OPTIMIZERS: dict[str, type[keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "lion": keras.optimizers.Lion,
}


@dataclasses.dataclass(frozen=True)
class Optimization:
    """Optimizer settings. A config sets its attributes as `optimization.NAME`.

    Attributes:
        optimizer: "adam", "adamw", "sgd", "rmsprop" or "lion".
        learning_rate: learning rate, the peak of a schedule.
        decay: "constant" or "cosine".
        warmup_epochs: epochs of linear warm-up from 0.
        final_rate: final learning rate of the cosine decay, as a fraction of `learning_rate`.
        weight_decay: decoupled weight decay of kernels; None for the optimizer's default.
        clip_norm: largest norm of all gradients together; None for no clipping.
        accumulation_steps: steps whose gradients are averaged for one update; None for an update in every step.
        ema: momentum of a moving average of the weights, which is then validated and saved; None for no average.
        backbone_rate: factor of the learning rate of the backbone.
        stage_decay: factor of the learning rate of each stage of the backbone relative to the next one.
        momentum: momentum of "sgd" and "rmsprop"; None for the optimizer's default.
    """

    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "lion"] = "adam"
    learning_rate: NotNegative = 1e-3
    decay: Literal["constant", "cosine"] = "constant"
    warmup_epochs: NotNegative = 0
    final_rate: Share = 0.0
    weight_decay: NotNegative | None = None
    clip_norm: Positive | None = None
    accumulation_steps: Count | None = None
    ema: Fraction | None = None
    backbone_rate: NotNegative = 1.0
    stage_decay: Positive = 1.0
    momentum: Fraction | None = None

    def build(
        self, *, steps_per_epoch: int, epochs: int, rate_factors: Mapping[str, float] | None = None
    ) -> keras.optimizers.Optimizer:
        """Build the optimizer.

        Args:
            steps_per_epoch: training steps in an epoch.
            epochs: epochs of the whole training.
            rate_factors: {path of a variable: factor of its learning rate}; 1 for variables that are not named.

        Raises:
            UserError: the optimizer or the schedule is unknown.
        """
        optimizer_class = OPTIMIZERS[self.optimizer]
        options = {} if self.momentum is None else {"momentum": self.momentum}
        if self.weight_decay is not None:
            options["weight_decay"] = self.weight_decay
        optimizer = (with_rate_factors(optimizer_class, rate_factors) if rate_factors else optimizer_class)(
            self.schedule(steps_per_epoch, epochs),
            global_clipnorm=self.clip_norm,
            gradient_accumulation_steps=self.accumulation_steps,
            use_ema=self.ema is not None,
            ema_momentum=self.ema or 0.99,
            **options,
        )
        # As in the papers that these values come from, kernels are decayed, biases and norms are not.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer

    def schedule(self, steps_per_epoch: int, epochs: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """Return the learning rate or a schedule over updates; an update takes `accumulation_steps` steps."""
        if self.decay == "constant" and not self.warmup_epochs:
            return float(self.learning_rate)  # Keras takes no integer
        updates = steps_per_epoch / (self.accumulation_steps or 1)
        warmup = round(updates * self.warmup_epochs)
        steps = max(1, round(updates * epochs) - warmup)
        final_rate = 1.0 if self.decay == "constant" else self.final_rate
        if not warmup:
            return keras.optimizers.schedules.CosineDecay(self.learning_rate, steps, alpha=final_rate)
        return keras.optimizers.schedules.CosineDecay(
            0.0, steps, alpha=final_rate, warmup_target=self.learning_rate, warmup_steps=warmup
        )

    def rate_factors(self, stage_by_variable: Mapping[str, str], stages: Sequence[str]) -> dict[str, float] | None:
        """Return the learning-rate factor of each variable of the backbone; None if all are 1.

        Args:
            stage_by_variable: {path of a variable: its stage}.
            stages: stages from the input to the output.
        """
        depth = {stage: len(stages) - 1 - i for i, stage in enumerate(stages)}
        factors = {
            path: self.backbone_rate * self.stage_decay ** depth[stage]
            for path, stage in stage_by_variable.items()
            if stage in depth
        }
        return factors if set(factors.values()) - {1.0} else None


def with_rate_factors(
    optimizer_class: type[keras.optimizers.Optimizer], rate_factors: Mapping[str, float]
) -> type[keras.optimizers.Optimizer]:
    """Return a subclass of an optimizer that multiplies each variable's learning rate, including its weight decay.

    Scaling gradients instead would have no effect on Adam, which divides by their size.
    """

    class Scaled(OwnWeightDecay, optimizer_class):  # type: ignore[valid-type, misc]
        def build(self, variables):
            super().build(variables)
            self._factors = [rate_factors.get(variable.path, 1.0) for variable in variables]

        def update_step(self, gradient, variable, learning_rate):
            return super().update_step(gradient, variable, learning_rate * self._factor(variable))

        def decay_weights(self, variables, decay):
            if self.weight_decay is None:
                return
            weight_decay = self.weight_decay
            for factor in sorted(set(self._factors)):
                self.weight_decay = weight_decay * factor
                decay([v for v in variables if self._factor(v) == factor])
            self.weight_decay = weight_decay

        def _factor(self, variable):
            return self._factors[index_of(self, variable)]

    # A saved model is opened with the plain optimizer, which it finds by this name.
    Scaled.__name__ = optimizer_class.__name__
    Scaled.__qualname__, Scaled.__module__ = optimizer_class.__qualname__, optimizer_class.__module__
    return Scaled
