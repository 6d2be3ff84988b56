"""mkdocs hook: fill `configuration.md` with every parameter that a config may set, read from the code."""

import dataclasses
import inspect

MARK = "{{ configurables }}"


def on_page_markdown(markdown, page, config, files):
    """Replace the mark in `configuration.md` by one table per configurable."""
    del page, config, files
    return markdown.replace(MARK, configurables()) if MARK in markdown else markdown


def configurables():
    """Markdown with a section for each name in `dr_tf.configuration.CONFIGURABLES`."""
    from dr_tf.configuration import CONFIGURABLES

    return "\n\n".join(_section(name, thing) for name, thing in CONFIGURABLES.items())


def _section(name, thing):
    summary = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
    rows = [_row(name, parameter) for parameter in inspect.signature(thing).parameters.values()]
    table = "\n".join(["| parameter | type | default |", "|---|---|---|", *rows]) if rows else ""
    return f"## {name}\n\n{summary}\n\n{table}"


def _row(name, parameter):
    empty = inspect.Parameter.empty
    kind = "" if parameter.annotation is empty else inspect.formatannotation(parameter.annotation)
    default = "required" if parameter.default is empty else f"`{_default(parameter.default)}`"
    return f"| `{name}.{parameter.name}` | {_cell(kind)} | {_cell(default)} |"


def _default(value):
    if repr(value) == "<factory>":
        return "…"
    return f"{type(value).__name__}()" if dataclasses.is_dataclass(value) else repr(value)


def _cell(text):
    return text.replace("|", "\\|")
