"""Everything that a run is made of, besides the folders it reads and writes."""

import dataclasses
from collections.abc import Callable

from dr_tf.data.sampling import Shuffled
from dr_tf.inference.modes import check as check_modes
from dr_tf.training.feature_bank import FeatureBank
from dr_tf.training.optimization import Optimization


@dataclasses.dataclass(frozen=True)
class Experiment:
    """`model(head=head)` builds the network; it is called where the weights are to live, and again for every fold.

    `keep` says which epoch's weights become the model: the "best" by `monitor` on the validation split, or the "last".
    `class_weights` is None, "balanced" or a weight per class. `jit` None compiles by XLA on a GPU and not on a CPU.
    """

    dataset: str | list[str] | tuple[str, ...]
    head: object
    model: Callable
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
    monitor: tuple[str, str] | None = None  # (figure, "max" or "min"); None: the head's
    patience: int | None = None
    checkpoint_every: int = 1
    precision: str = "float32"
    jit: bool | None = None
    distribution: str = "one_device"
    cache: str = "auto"
    cache_dir: str | None = None
    steps_per_execution: int = 1
    prior: str | dict = "train"  # what probabilities speak under: "train", "uniform", or {class: share}
    operating_point: str = "sensitivity_0.9"  # what is referred; decision.json holds the others, too
    # Fitted besides "plain", names in `dr_tf.inference.modes.WAYS`: one pass over the training photographs for those who
    # vote, and the calibration photographs as often as there are views.
    modes: tuple[str, ...] = ("tta4", "knn", "knn_majority")

    def __post_init__(self):
        check_modes(self.modes)

    @property
    def watched(self):
        """The figure that chooses an epoch, or None where the last is kept."""
        return None if self.keep == "last" else self.selected_by

    @property
    def selected_by(self):
        """The figure that says which of two is better, and its better direction."""
        return tuple(self.monitor or self.head.monitor)
