"""The page `/docs`: the OpenAPI description as one page of HTML that loads nothing, with a form to try a photograph."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top; }
label { display: block; margin: .5rem 0; }
code { background: #f2f2f2; padding: 0 .2rem; }
"""


def page(schema: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI description."""
    title = html.escape(schema["info"]["title"])
    parts = [f"<h1>{title}</h1>", f"<p>{html.escape(schema['info']['description'])}</p>"]
    parts += ['<p>For programs: <a href="openapi.json">openapi.json</a></p>']
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            parts += _operation(path, method, operation)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{"".join(parts)}</body></html>'
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"
    yield f"<p>{html.escape(operation.get('description', operation.get('summary', '')))}</p>"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        fields = content["schema"]["properties"]
        yield _table("Fields", ((name, _kind(field), field["description"]) for name, field in fields.items()))
        yield _form(path, fields)
    answers = operation.get("responses", {})
    yield _table("Responses", ((status, "", answer["description"]) for status, answer in answers.items()))
    properties = _properties(answers.get("200", {}))
    if properties:
        yield _table("Answer", properties)


def _properties(answer: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (name, kind, description) of what an answer holds, and of the objects in it."""
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    rows = []
    for name, value in schema.get("properties", {}).items():
        rows.append((name, _kind(value), value.get("description", "")))
        inner = value.get("items", value).get("properties", {})
        rows += [(f"{name}.{key}", _kind(of_key), of_key.get("description", "")) for key, of_key in inner.items()]
    return rows


def _kind(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(field["enum"])
    if field.get("format") == "binary":
        return "file"
    kind = field.get("type", "")
    return kind if isinstance(kind, str) else " or ".join(kind)


def _table(caption, rows):
    body = "".join(
        f"<tr><td><code>{html.escape(str(name))}</code></td><td>{html.escape(kind)}</td><td>{html.escape(text)}</td></tr>"
        for name, kind, text in rows
    )
    return f"<h3>{caption}</h3><table>{body}</table>"


def _form(path: str, fields: Mapping[str, Any]) -> str:
    """A form that sends a photograph and shows the answer as the browser shows JSON."""
    inputs = "".join(
        f'<label>{html.escape(name)} <input name={json.dumps(name)} type="{_kind(field) if _kind(field) == "file" else "text"}"></label>'
        for name, field in fields.items()
    )
    button = "<button>Decide</button>"
    return f'<h3>Try it</h3><form method="post" action="{html.escape(path)}" enctype="multipart/form-data">{inputs}{button}</form>'
