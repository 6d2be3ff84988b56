"""ODIR's labels of a patient, each present or absent by itself."""

import dataclasses
from typing import ClassVar

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, ODIR_LABELS
from dr_tf.models.heads.head import Head


@dataclasses.dataclass(frozen=True)
class MultiLabel(Head):
    """One logit a label. Every label is decided, by a threshold of its own; that of `positive` says who is referred.

    A label of ABSENT is not known: it has neither loss nor gradient, and no metric counts it.
    """

    positive: str = "odir_D"
    focal_gamma: float | None = None  # Lin et al. 2017; None is plain cross-entropy

    name: ClassVar[str] = "multi_label"
    link: ClassVar[str] = "labels"
    exclusive: ClassVar[bool] = False
    monitor: ClassVar[tuple[str, str]] = ("val_auroc_macro", "max")
    classes: ClassVar[tuple[str, ...]] = tuple(ODIR_LABELS)
    outputs: ClassVar[int] = len(ODIR_LABELS)

    def __post_init__(self):
        super().__post_init__()
        if self.positive not in self.decided:
            raise UserError(f"multi_label does not tell {self.positive!r}; it can tell {', '.join(self.decided)}")

    @property
    def decided(self):
        return tuple(f"odir_{letter}" for letter in self.classes)

    def usable(self, columns):
        return (self.strata(columns) != ABSENT).any(axis=1)

    def strata(self, columns):
        n = len(next(iter(columns.values())))
        return np.asarray(columns.get("labels", np.full((n, self.outputs), ABSENT)), np.int64)

    def targets(self, columns):
        return self.strata(columns).astype(np.float32)

    def name_of(self, target):
        return ", ".join(name for name, value in zip(self.classes, target, strict=True) if value == 1) or "none"

    def loss(self):
        from dr_tf.models.losses import Masked

        return Masked(self.focal_gamma, name="loss")

    def metrics(self):
        from dr_tf.metrics.labels import AUROCMacro, F1Macro

        return [F1Macro(self.outputs, name="f1_macro"), AUROCMacro(self.outputs, name="auroc_macro")]

    def evidence(self, logits):
        each = {name: logits[:, i] for i, name in enumerate(self.classes)}
        return each | {"positive": logits[:, self.decided.index(self.positive)]}

    def scores(self, probabilities):
        return np.asarray(probabilities)
