"""The optimizer: learning-rate schedule, clipping, weight averaging, and a learning rate of its own for the backbone."""

import dataclasses

import keras

from dr_tf.console import UserError
from dr_tf.models.keras_private import OwnWeightDecay, index_of

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "lion": keras.optimizers.Lion,
}
DECAYS = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class Optimization:
    """`backbone_rate` multiplies the learning rate of the backbone; `stage_decay` that of each stage below the next.

    `ema` keeps a moving average of the weights with this momentum; the average is validated and saved.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    decay: str = "constant"
    warmup_epochs: float = 0
    final_rate: float = 0.0  # of the cosine, as a share of learning_rate
    weight_decay: float | None = None
    clip_norm: float | None = None  # of all gradients together
    accumulation_steps: int | None = None
    ema: float | None = None
    backbone_rate: float = 1.0
    stage_decay: float = 1.0
    momentum: float | None = None  # of sgd and rmsprop

    def build(self, *, steps_per_epoch, epochs, rate_of=None):
        """`rate_of` is a {variable's path: factor}; variables that it does not name keep the whole rate."""
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"unknown optimizer {self.optimizer!r}; known: {', '.join(OPTIMIZERS)}")
        kind = OPTIMIZERS[self.optimizer]
        options = {} if self.momentum is None else {"momentum": self.momentum}
        if self.weight_decay is not None:
            options["weight_decay"] = self.weight_decay
        optimizer = (with_rates(kind, rate_of) if rate_of else kind)(
            self.schedule(steps_per_epoch, epochs),
            global_clipnorm=self.clip_norm,
            gradient_accumulation_steps=self.accumulation_steps,
            use_ema=self.ema is not None,
            ema_momentum=self.ema or 0.99,
            **options,
        )
        # As in the papers that these values come from: the decay pulls at kernels, not at biases and norms.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer

    def schedule(self, steps_per_epoch, epochs):
        """A rate, or a schedule over the optimizer's updates: one update takes `accumulation_steps` steps."""
        if self.decay not in DECAYS:
            raise UserError(f"unknown decay {self.decay!r}; known: {', '.join(DECAYS)}")
        if self.decay == "constant" and not self.warmup_epochs:
            return self.learning_rate
        updates = steps_per_epoch / (self.accumulation_steps or 1)
        warmup = round(updates * self.warmup_epochs)
        steps = max(1, round(updates * epochs) - warmup)
        floor = 1.0 if self.decay == "constant" else self.final_rate
        if not warmup:
            return keras.optimizers.schedules.CosineDecay(self.learning_rate, steps, alpha=floor)
        return keras.optimizers.schedules.CosineDecay(
            0.0, steps, alpha=floor, warmup_target=self.learning_rate, warmup_steps=warmup
        )

    def rates(self, stage_of, stages):
        """{variable's path: factor} from {variable's path: its stage}; `stages` run from the input to the output."""
        depth = {stage: len(stages) - 1 - i for i, stage in enumerate(stages)}
        rates = {path: self.backbone_rate * self.stage_decay ** depth[s] for path, s in stage_of.items() if s in depth}
        return rates if set(rates.values()) - {1.0} else None


def with_rates(kind, rate_of):
    """A subclass of an optimizer that multiplies the learning rate of each variable, its weight decay included.

    Scaling gradients would not do: Adam divides by their size.
    """

    class Scaled(OwnWeightDecay, kind):
        def build(self, variables):
            super().build(variables)
            self._factors = [rate_of.get(variable.path, 1.0) for variable in variables]

        def update_step(self, gradient, variable, learning_rate):
            return super().update_step(gradient, variable, learning_rate * self._factor(variable))

        def decay_weights(self, variables, decay):
            if self.weight_decay is None:
                return
            whole = self.weight_decay
            for factor in sorted(set(self._factors)):
                self.weight_decay = whole * factor
                decay([v for v in variables if self._factor(v) == factor])
            self.weight_decay = whole

        def _factor(self, variable):
            return self._factors[index_of(self, variable)]

    Scaled.__name__ = kind.__name__  # what a saved model is opened with: the plain optimizer
    Scaled.__qualname__, Scaled.__module__ = kind.__qualname__, kind.__module__
    return Scaled
