"""Experiment: everything that defines a training run, except the folders that it reads and writes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from dr_tf.console import UserError
from dr_tf.data.augmentation import Augmentation
from dr_tf.data.sampling import Sampling, Shuffled
from dr_tf.inference.fit_rule import OPERATING_POINTS, check_operating_points
from dr_tf.inference.modes import MODES, mode_definition
from dr_tf.inference.priors import check_prior
from dr_tf.models.heads.head import Head
from dr_tf.models.network import FEATURES, MEMBERS_PREFIX
from dr_tf.models.stages import EVIDENCE
from dr_tf.parameters import Count, Natural, NotNegative, Positive, PositiveShare, Share
from dr_tf.training.feature_bank import FeatureBank
from dr_tf.training.lesion_masks import LESION_MAP, LesionMasks
from dr_tf.training.optimization import Optimization

if TYPE_CHECKING:
    import keras
    import numpy as np


def check_output(name: str) -> None:
    """Raise UserError if an output's name cannot be the name of a layer, a mode and a file."""
    is_taken = name in (FEATURES, EVIDENCE, LESION_MAP, *MODES) or str(name).startswith(MEMBERS_PREFIX)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or is_taken:
        hint = "the name is taken" if is_taken else "use letters, digits and _, and begin with a letter"
        raise UserError(f"train.heads: an output cannot be called {name!r}: {hint}")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Definition of a training run. A config sets its attributes as `train.NAME`.

    Attributes:
        dataset: record set to train on, NAME/CONFIG; several in a list.
        heads: {output: head}, such as {'grade': @softmax()}.
        model: function of `heads` that builds the network, such as @classifier. It is called within the distribution
            strategy, and again for every fold.
        decides: output that decides on referral; the first of `heads` by default.
        loss_weights: {output: weight of its loss}; 1 for outputs that are not named.
        masks: training of a decoder's evidence map on lesion masks; None for weak supervision, by the labels alone.
        optimization: optimizer and learning-rate schedule.
        sampling: order and balance of the training examples.
        augmentation: augmentation of the training images; None for unchanged images.
        epochs: number of epochs; 0 for the initial weights, as in zero-shot classification.
        batch_size: training examples per step, on all devices together.
        validation_batch_size: examples per batch wherever nothing is trained.
        seed: seed of the initial weights, the order of examples, augmentation and dropout.
        feature_bank: cache of a frozen backbone's features; None to run the backbone in every step.
        training_share: share of the training patients that are trained on, for learning curves. Smaller parts are within
            larger ones.
        class_weights: sample weights by class of the deciding output, for its loss only: "balanced" for
            n / (classes * count), or a tuple with a number for each class; None for equal weights.
        keep: epoch whose weights become the model: "best" by `monitor` on the validation split, or "last".
        monitor: (metric, "max" or "min") that selects the best epoch; that of the deciding head by default.
        patience: epochs without improvement of `monitor` after which training stops; None for no early stopping.
        checkpoint_every: epochs between checkpoints.
        precision: "float32", "mixed_float16" or "mixed_bfloat16".
        jit: whether XLA compiles the training step; by default only on a single GPU.
        distribution: "one_device", "mirrored" (all GPUs of this machine) or "multi_worker" (several machines).
        protocol: "splits" trains one run on the splits of the records. "leave_one_source_out" trains one run per source, on
            the other sources, and "train_on_one_source" one run per source, on that source alone. A source that a run is
            not trained on is held out, except for its test split, which no run uses.
        cache: cache of decoded images: "auto", "memory", "disk" or "none".
        cache_dir: folder of the cache on disk.
        steps_per_execution: training steps that Keras runs in one call.
        prior: class prior that probabilities are calibrated for: "train", "uniform", {class: share}, or the prevalence of
            the positive definition.
        operating_point: operating point that decides on referral, such as "sensitivity_0.9". decision.json has the
            thresholds of all.
        modes: inference modes that are calibrated besides "plain" (see `dr_tf.inference.modes`). They cost one pass over
            the training images for nearest neighbours, and one pass over the calibration images per view.
    """

    dataset: str | list[str] | tuple[str, ...]
    heads: dict[str, Head]
    model: Callable[..., keras.Model]
    decides: str | None = None
    loss_weights: dict[str, NotNegative] | None = None
    masks: LesionMasks | None = None
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    sampling: Sampling = dataclasses.field(default_factory=Shuffled)
    augmentation: Augmentation | None = None
    epochs: Natural = 50
    batch_size: Count = 16
    validation_batch_size: Count = 32
    seed: Natural = 0
    feature_bank: FeatureBank | None = None
    training_share: PositiveShare = 1.0
    class_weights: Literal["balanced"] | Sequence[Positive] | None = None
    keep: Literal["best", "last"] = "best"
    monitor: tuple[str, Literal["max", "min"]] | None = None
    patience: Count | None = None
    checkpoint_every: Count = 1
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    jit: bool | None = None
    distribution: Literal["one_device", "mirrored", "multi_worker"] = "one_device"
    protocol: Literal["splits", "leave_one_source_out", "train_on_one_source"] = "splits"
    cache: Literal["auto", "memory", "disk", "none"] = "auto"
    cache_dir: str | None = None
    steps_per_execution: Count = 1
    prior: Literal["train", "uniform"] | dict[str, Share] | Share = "train"
    operating_point: str = "sensitivity_0.9"
    modes: tuple[str, ...] = ("tta4", "knn", "knn_majority")

    def __post_init__(self) -> None:
        self._check_heads()
        self._check_monitor()
        check_operating_points(OPERATING_POINTS, self.operating_point)
        check_prior(self.prior, self.head)
        for mode in self.modes:
            mode_definition(mode, self.heads, self.deciding_output)

    def _check_heads(self):
        if not self.heads:
            raise UserError("train.heads names no output; it is {output: head}, such as {'grade': @softmax()}")
        for output in self.heads:
            check_output(output)
        for parameter, names in (("decides", [self.deciding_output]), ("loss_weights", self.loss_weights or {})):
            if unknown := [name for name in names if name not in self.heads]:
                raise UserError(
                    f"train.{parameter} names {unknown[0]!r}; the outputs of train.heads are {', '.join(self.heads)}"
                )
        multi_label = [name for name, head in self.heads.items() if not head.exclusive and name != self.deciding_output]
        if multi_label:
            raise UserError(
                f"the multi-label output {multi_label[0]!r} has to decide: set train.decides = {multi_label[0]!r}"
            )

    def _check_monitor(self):
        metric, _ = self.selection_metric
        if self.keep == "best" and metric not in self.validation_metrics:
            raise UserError(
                f"train.monitor {metric!r} is no metric of the validation split; known: "
                + ", ".join(self.validation_metrics)
            )

    @property
    def deciding_output(self) -> str:
        """Name of the output that decides on referral."""
        return self.decides or next(iter(self.heads))

    @property
    def head(self) -> Head:
        """Head of the deciding output."""
        return self.heads[self.deciding_output]

    @property
    def metric_prefix(self) -> str:
        """Prefix of the deciding head's metrics in the history; empty if it is the only output."""
        return f"{self.deciding_output}_" if self._has_several_outputs else ""

    @property
    def _has_several_outputs(self):
        return len(self.heads) > 1 or self.masks is not None

    @property
    def validation_metrics(self) -> list[str]:
        """Names of the metrics of the validation split in the history."""
        has_several = self._has_several_outputs
        names = ["val_loss"] + ([f"val_{LESION_MAP}_loss"] if self.masks else [])
        for output, head in self.heads.items():
            prefix = f"val_{output}_" if has_several else "val_"
            names += ([f"{prefix}loss"] if has_several else []) + [prefix + metric.name for metric in head.metrics()]
        return names

    @property
    def monitored(self) -> tuple[str, str] | None:
        """(metric, direction) that selects the epoch to keep; None if the last is kept."""
        return None if self.keep == "last" else self.selection_metric

    @property
    def selection_metric(self) -> tuple[str, str]:
        """(metric, "max" or "min") by which epochs and runs are compared."""
        if self.monitor:
            metric, direction = self.monitor
            return metric, direction
        name, best = self.head.monitor
        return f"val_{self.metric_prefix}{name.removeprefix('val_')}", best

    @property
    def all_loss_weights(self) -> dict[str, float]:
        """{output: weight of its loss} of every output in training."""
        weights = {output: float((self.loss_weights or {}).get(output, 1.0)) for output in self.heads}
        return weights | ({LESION_MAP: self.masks.weight} if self.masks else {})

    def losses(self, true_classes: Mapping[str, np.ndarray]) -> dict[str, keras.losses.Loss]:
        """Return {output: loss} of every output in training.

        Args:
            true_classes: {output: classes of the training examples}, for losses that depend on them.
        """
        losses = {output: head.training_loss(true_classes.get(output)) for output, head in self.heads.items()}
        return losses | ({LESION_MAP: self.masks.loss()} if self.masks else {})
