"""Grade diabetic retinopathy from fundus photographs.

Everything that is named here is imported when it is first used, so that `import dr_tf` is fast.

Examples:
    >>> import dr_tf
    >>> model = dr_tf.load("ready")  # the model that comes with dr_tf, or the folder of a run
    >>> [decision] = model.predict("eye.jpg")
    >>> decision.action in ("refer", "clear", "retake")
    True
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dr_tf.api import ClassActivationMap, Model, evaluate, load, prepare, read_records, train
    from dr_tf.console import UserError
    from dr_tf.fundus.header import BadImageError
    from dr_tf.inference.case import Case
    from dr_tf.inference.decision import Decision

__version__ = "0.1.0"

__all__ = [
    "BadImageError",
    "Case",
    "ClassActivationMap",
    "Decision",
    "Model",
    "UserError",
    "__version__",
    "evaluate",
    "load",
    "prepare",
    "read_records",
    "train",
]

# Name -> the module that defines it, where it is not dr_tf.api.
_MODULES = {
    "BadImageError": "dr_tf.fundus.header",
    "Case": "dr_tf.inference.case",
    "Decision": "dr_tf.inference.decision",
    "UserError": "dr_tf.console",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dr_tf' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES.get(name, "dr_tf.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
