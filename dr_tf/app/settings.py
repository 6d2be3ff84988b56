"""What the command sets before the server starts, and every visit of the page reads."""

from __future__ import annotations

import dataclasses
import os

from dr_tf.app.limits import Limits
from dr_tf.inference.ready import READY


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the page.

    Attributes:
        run_dir: the folder of the run or export that decides.
        limits: of an upload.
        prevalence: the share of positives at the clinic that the page begins with.
    """

    run_dir: str | os.PathLike = READY
    limits: Limits = dataclasses.field(default_factory=Limits)
    prevalence: float = 0.1


_current = [Settings()]


def use_settings(settings: Settings) -> None:
    """Use settings for all visits from now on."""
    _current[0] = settings


def current_settings() -> Settings:
    """Return the settings in use."""
    return _current[0]
