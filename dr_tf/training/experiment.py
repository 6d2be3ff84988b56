"""Everything that a run is made of, besides the folders it reads and writes."""

import dataclasses
import re
from collections.abc import Callable

from dr_tf.console import UserError
from dr_tf.data.sampling import Shuffled
from dr_tf.inference.fit_rule import POINTS, check_points
from dr_tf.inference.modes import MODES, mode_definition
from dr_tf.inference.priors import check_prior
from dr_tf.models.heads.head import Head
from dr_tf.models.network import FEATURES, MEMBERS
from dr_tf.training.feature_bank import FeatureBank
from dr_tf.training.optimization import Optimization

KEPT = ("best", "last")


def check_output(name):
    """Refuses a name that a layer, a mode or a file could not have."""
    taken = name in (FEATURES, *MODES) or str(name).startswith(MEMBERS)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or taken:
        raise UserError(
            f"train.heads: an output cannot be called {name!r}; take letters, digits and _"
            + taken * ", and another name"
        )


@dataclasses.dataclass(frozen=True)
class Experiment:
    """`model(heads=heads)` builds the network; it is called where the weights are to live, and again for every fold.

    `heads` is {output: head}, `loss_weights` {output: weight}, 1 where left out; `decides` names the output that refers,
    the first where left out. `keep` says which epoch's weights become the model: the "best" by `monitor` on the validation
    split, or the "last". `class_weights` is None, "balanced" or a weight per class of the output that decides, and weighs
    its loss alone. `jit` None compiles by XLA on a GPU and not on a CPU.
    """

    dataset: str | list[str] | tuple[str, ...]
    heads: dict
    model: Callable
    decides: str | None = None
    loss_weights: dict | None = None
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    sampling: object = dataclasses.field(default_factory=Shuffled)
    augmentation: object = None
    epochs: int = 50
    batch_size: int = 16
    validation_batch_size: int = 32
    seed: int = 0
    feature_bank: FeatureBank | None = None
    class_weights: str | tuple | None = None
    keep: str = "best"
    monitor: tuple[str, str] | None = None  # (metric, "max" or "min"); None: that of the head that decides
    patience: int | None = None
    checkpoint_every: int = 1
    precision: str = "float32"
    jit: bool | None = None
    distribution: str = "one_device"
    cache: str = "auto"
    cache_dir: str | None = None
    steps_per_execution: int = 1
    prior: str | dict | float = (
        "train"  # what probabilities speak under: "train", "uniform", {class: share}, a prevalence
    )
    operating_point: str = "sensitivity_0.9"  # what is referred; decision.json holds the others, too
    # Fitted besides "plain", as `dr_tf.inference.modes` names them: one pass over the training photographs for those who
    # vote, and the calibration photographs as often as there are views.
    modes: tuple[str, ...] = ("tta4", "knn", "knn_majority")

    def __post_init__(self):
        self._check_heads()
        self._check_numbers()
        if self.keep not in KEPT:
            raise UserError(f"unknown train.keep {self.keep!r}; known: {', '.join(KEPT)}")
        self._check_monitor()
        check_points(POINTS, self.operating_point)
        check_prior(self.prior, self.head)
        for mode in self.modes:
            mode_definition(mode, self.heads, self.output)

    def _check_heads(self):
        if not isinstance(self.heads, dict) or not self.heads:
            raise UserError("train.heads is {output: head}, such as {'grade': @softmax()}")
        for output, head in self.heads.items():
            if not isinstance(head, Head):
                raise UserError(f"train.heads of {output!r} is no head: write @softmax(), with the brackets")
            check_output(output)
        if not isinstance(self.loss_weights or {}, dict):
            raise UserError("train.loss_weights is {output: weight}, such as {'dme': 0.5}")
        for what, names in (("decides", [self.decides or self.output]), ("loss_weights", self.loss_weights or {})):
            if unknown := [name for name in names if name not in self.heads]:
                raise UserError(
                    f"train.{what} names {unknown[0]!r}; the outputs of train.heads are {', '.join(self.heads)}"
                )
        for name, weight in (self.loss_weights or {}).items():
            if not isinstance(weight, (int, float)) or not weight >= 0:
                raise UserError(f"train.loss_weights of {name!r} is 0 or a positive number, not {weight!r}")
        if told := [name for name, head in self.heads.items() if not head.exclusive and name != self.output]:
            raise UserError(f"{told[0]!r} tells several labels, so it has to decide: train.decides = {told[0]!r}")

    def _check_numbers(self):
        if isinstance(self.modes, str):
            raise UserError(f"train.modes is a tuple of names: ({self.modes!r},)")
        for name in ("epochs", "batch_size", "validation_batch_size", "checkpoint_every", "steps_per_execution"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise UserError(f"train.{name} is a whole number, 1 or more, not {getattr(self, name)!r}")

    def _check_monitor(self):
        metric, direction = self._pair(self.selected_by)
        if direction not in ("max", "min"):
            raise UserError(f"train.monitor is (metric, 'max' or 'min'), not {self.monitor!r}")
        if self.keep == "best" and metric not in self.watchable:
            raise UserError(
                f"train.monitor {metric!r} is no metric of the validation split; known: {', '.join(self.watchable)}"
            )

    def _pair(self, monitor):
        if not isinstance(monitor, (tuple, list)) or len(monitor) != 2:
            raise UserError(f"train.monitor is (metric, 'max' or 'min'), not {monitor!r}")
        return monitor

    @property
    def output(self):
        """The name of the output that decides."""
        return self.decides or next(iter(self.heads))

    @property
    def head(self):
        """The head that decides."""
        return self.heads[self.output]

    @property
    def metric_prefix(self):
        """What Keras puts before the name of the deciding head's metrics: nothing where it is the only one."""
        return f"{self.output}_" if len(self.heads) > 1 else ""

    @property
    def watchable(self):
        """The names that the history has of the validation split."""
        several = len(self.heads) > 1
        names = ["val_loss"]
        for output, head in self.heads.items():
            prefix = f"val_{output}_" if several else "val_"
            names += ([f"{prefix}loss"] if several else []) + [prefix + metric.name for metric in head.metrics()]
        return names

    @property
    def watched(self):
        """The metric that chooses an epoch, or None where the last is kept."""
        return None if self.keep == "last" else self.selected_by

    @property
    def selected_by(self):
        """The metric that says which of two is better, and its better direction."""
        if self.monitor:
            return tuple(self.monitor) if isinstance(self.monitor, (tuple, list)) else self.monitor
        name, direction = self.head.monitor
        return f"val_{self.metric_prefix}{name.removeprefix('val_')}", direction

    @property
    def weights_of_losses(self):
        return {output: float((self.loss_weights or {}).get(output, 1.0)) for output in self.heads}
