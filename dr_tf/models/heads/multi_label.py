"""Head that predicts the ODIR labels of a patient, each present or absent independently of the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, ODIR_LABELS
from dr_tf.models.heads.head import Head
from dr_tf.parameters import NotNegative, Positive, Share

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class MultiLabel(Head):
    """One logit per label. Each label is decided by its own threshold; that of `positive` decides on referral.

    A label of ABSENT is unknown: it contributes to neither loss, gradient nor metrics.

    Attributes:
        focal_gamma: Gamma of the focal loss (Lin et al., ICCV 2017); None for plain cross-entropy.
        focal_alpha: Weight of a positive label in the focal loss, with 1 - alpha for a negative one; None for equal weights.
        focal_share: Share of the focal loss in the loss; the rest is cross-entropy. None for all of it if there is a gamma.
        positive_weights: Weight of each positive label in the cross-entropy: "balanced" for the number of negative over
            the number of positive training examples, or a number per label; None for equal weights.
    """

    positive: str = "odir_D"
    focal_gamma: NotNegative | None = None
    focal_alpha: Share | None = None
    focal_share: Share | None = None
    positive_weights: Literal["balanced"] | Sequence[Positive] | None = None

    name: ClassVar[str] = "multi_label"
    link: ClassVar[str] = "labels"
    exclusive: ClassVar[bool] = False
    monitor: ClassVar[tuple[str, str]] = ("val_auroc_macro", "max")
    classes: ClassVar[tuple[str, ...]] = tuple(ODIR_LABELS)
    outputs: ClassVar[int] = len(ODIR_LABELS)

    def __post_init__(self):
        super().__post_init__()
        if self.positive not in self.definitions:
            raise UserError(
                f"the multi_label head cannot decide {self.positive!r}; it can decide {', '.join(self.definitions)}"
            )
        if self.focal_gamma is None and (self.focal_alpha is not None or self.focal_share is not None):
            raise UserError("multi_label: a focal_alpha or focal_share needs a focal_gamma")
        if self.positive_weights not in (None, "balanced") and len(self.positive_weights) != self.outputs:
            raise UserError(
                f"multi_label.positive_weights has {len(self.positive_weights)} numbers, not one for each of the "
                f"{self.outputs} labels {' '.join(self.classes)}"
            )

    @property
    def definitions(self) -> tuple[str, ...]:
        """The definitions that the head decides: one per label."""
        return tuple(f"odir_{letter}" for letter in self.classes)

    def has_label(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return which examples have at least one known label, bool [n]."""
        return (self.true_classes(columns) != ABSENT).any(axis=1)

    def true_classes(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return 1, 0 or ABSENT for each label, int [n, labels]."""
        n = len(next(iter(columns.values())))
        return np.asarray(columns.get("labels", np.full((n, self.outputs), ABSENT)), np.int64)

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the labels as float32 [n, labels]; ABSENT if unknown."""
        return self.true_classes(columns).astype(np.float32)

    def target_name(self, target: np.ndarray) -> str:
        """Return the letters of the labels that are present."""
        return ", ".join(name for name, value in zip(self.classes, target, strict=True) if value == 1) or "none"

    def loss(self) -> keras.losses.Loss:
        """Build the masked cross-entropy, focal loss, or mean of both."""
        return self.training_loss()

    def training_loss(self, true_classes: np.ndarray | None = None) -> keras.losses.Loss:
        """Build the loss; balanced by the training examples if the config says so and they are given."""
        from dr_tf.models.losses import MaskedBinaryCrossentropy

        return MaskedBinaryCrossentropy(
            self.focal_gamma,
            alpha=self.focal_alpha,
            focal_share=1.0 if self.focal_share is None else self.focal_share,
            positive_weights=self._weights(true_classes),
            name="loss",
        )

    def _weights(self, true_classes):
        if self.positive_weights != "balanced":
            return self.positive_weights
        if true_classes is None:
            return None
        positive, negative = ((true_classes == value).sum(axis=0) for value in (1, 0))
        return np.maximum(negative, 1) / np.maximum(positive, 1)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Build macro F1 and macro AUROC."""
        from dr_tf.metrics.labels import AUROCMacro, F1Macro

        return [F1Macro(self.outputs, name="f1_macro"), AUROCMacro(self.outputs, name="auroc_macro")]

    def evidence(self, logits: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        """Return the logit of each label, and of "positive"."""
        by_label = {name: logits[:, i] for i, name in enumerate(self.classes)}
        return by_label | {"positive": logits[:, self.definitions.index(self.positive)]}

    def definition_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the probability of each label, [n, labels]."""
        return np.asarray(probabilities)
