"""Head that predicts the risk of macular edema, trained on the examples whose risk is known."""

import dataclasses
from typing import ClassVar

from dr_tf.grades import DME_RISKS
from dr_tf.models.heads.one_hot import OneHot


@dataclasses.dataclass(frozen=True)
class Edema(OneHot):
    """Softmax over the risks of macular edema."""

    positive: str = "referable_dme"

    name: ClassVar[str] = "edema"
    field: ClassVar[str] = "dme"
    monitor: ClassVar[tuple[str, str]] = ("val_quadratic_kappa", "max")
    classes: ClassVar[tuple[str, ...]] = DME_RISKS
