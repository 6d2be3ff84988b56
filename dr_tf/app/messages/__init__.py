"""The words of the page and of its reports: one JSON file per language, `messages/LANGUAGE.json`.

A translation is a copy of `en.json` with other values. Keys and {placeholders} stay as they are; a test compares them.
"""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

_FOLDER = pathlib.Path(__file__).parent
DEFAULT_LANGUAGE = "en"


class Messages:
    """The words in one language: `messages("limits.too_many", count=3, files=2)`.

    Args:
        language: the name of a file beside this module.
    """

    def __init__(self, language: str = DEFAULT_LANGUAGE) -> None:
        self.language = language
        self._texts = _read(language)

    def __call__(self, key: str, **values: Any) -> str:
        """Return the text of a key, with its placeholders filled."""
        return self._texts[key].format(**values)

    def name(self, kind: str, name: str) -> str:
        """Return a name of the model in words, such as a class; a name that has no words is returned as it is."""
        return self._texts.get(f"{kind}.{name}", name.replace("_", " "))

    def percent(self, share: float) -> str:
        """Format a share as whole percent, never as 0 or 100 where it is neither."""
        if 0 < share < 0.01:
            return self("percent.below_one")
        if 0.99 < share < 1:
            return self("percent.above_99")
        return self("percent.value", value=round(100 * share))


def languages() -> dict[str, str]:
    """Return {language: its own name}, the default first."""
    codes = sorted((path.stem for path in _FOLDER.glob("*.json")), key=lambda code: (code != DEFAULT_LANGUAGE, code))
    return {code: _read(code)["language"] for code in codes}


@functools.cache
def _read(language: str) -> dict[str, str]:
    return json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
