"""mkdocs hook: fill `configuration.md` with every parameter that a config may set, read from the code."""

import inspect
import re
from typing import Any

MARK = "{{ configurables }}"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Replace the mark in `configuration.md` by one table per configurable."""
    del page, config, files
    return markdown.replace(MARK, configurables()) if MARK in markdown else markdown


def configurables() -> str:
    """Return Markdown with a section for each name in `dr_tf.configuration.CONFIGURABLES`."""
    from dr_tf.configuration import CONFIGURABLES
    from dr_tf.models.backbones import BACKBONES

    names = ("resnet_v2", "keras_hub", "clip_vit", "clip_resnet")
    own = {f"backbone ({name})": BACKBONES[name] for name in names}
    return "\n\n".join(_section(name, thing) for name, thing in (CONFIGURABLES | own).items())


def _section(name, thing):
    text = inspect.getdoc(thing) or ""
    meaning = _meanings(text)
    for base in reversed(inspect.getmro(thing)) if inspect.isclass(thing) else ():
        meaning = _meanings(inspect.getdoc(base) or "") | meaning
    rows = list(_rows(thing, meaning))
    head = ["| parameter | value | default | meaning |", "|---|---|---|---|"]
    summary = re.split(r"\n\s*(?:Args|Attributes):", text)[0].strip()
    return f"## {name}\n\n{summary}\n\n" + "\n".join([*head, *rows] if rows else [])


def _rows(thing, meaning):
    from dr_tf.parameters import annotations_of, describe

    annotations = annotations_of(thing)
    for parameter in inspect.signature(thing).parameters.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            default = "required" if parameter.default is inspect.Parameter.empty else f"`{_default(parameter.default)}`"
            value = describe(annotations[parameter.name])
            cells = (f"`{parameter.name}`", value, default, meaning.get(parameter.name, ""))
            yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _meanings(text):
    """Return {parameter: what its docstring says}, of a Google-style Args or Attributes section."""
    section = re.search(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
    if not section:
        return {}
    entries = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", section[1], re.MULTILINE)
    return {name: re.sub(r"\s+", " ", words) for name, words in entries}


def _default(value):
    return "@…()" if repr(value) == "<factory>" else repr(value)
