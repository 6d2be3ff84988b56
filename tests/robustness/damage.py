"""Hypothesis strategies of damaged files: valid files, and changes that a parser has to survive."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

_HEAD = 600  # bytes: most of what steers a parser lies at the beginning
_NUMBERS = [number.to_bytes(width, order, signed=number < 0)
            for width in (1, 2, 4, 8) for order in ("little", "big")
            for number in (0, 1, -1, (1 << (8 * width - 1)) - 1, -(1 << (8 * width - 1)))]  # fmt: skip
_LEAVES = st.sampled_from(
    (None, True, 0, -1, 1 << 31, 1 << 63, 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "0", "../x", "é\n\x1b[31m",
     "\ud800", [], {}, [[]], [0] * 99)
)  # fmt: skip
_JUNK = _LEAVES | st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@st.composite
def damaged_bytes(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """One of the samples, after one to four changes: bytes set, left out, repeated, cut off, or taken from another sample."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(_HEAD, len(data))) | st.integers(0, len(data)))
        length = draw(st.integers(1, 40))
        kind = draw(st.sampled_from(("flip", "set", "number", "leave out", "repeat", "cut", "other")))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            data[at : at + length] = draw(st.binary(min_size=1, max_size=length))
        elif kind == "number":
            number = draw(st.sampled_from(_NUMBERS))
            data[at : at + len(number)] = number
        elif kind == "leave out":
            del data[at : at + draw(st.integers(1, len(data) + 1))]
        elif kind == "repeat":
            data[at:at] = data[at : at + length] * draw(st.integers(1, 50))
        elif kind == "cut":
            del data[at:]
        else:
            other = draw(st.sampled_from(samples))
            data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


@st.composite
def damaged_text(draw: st.DrawFn, samples: Sequence[str]) -> bytes:
    """A table with cells, separators, quotes and line ends that do not fit, in any encoding."""
    text = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        piece = draw(st.sampled_from(('"', ",", ";", "\t", "\n", "\r", "\0", "\ufeff", "=1+1", "-1", "1e999", "nan", "9" * 400))
                     | st.text(max_size=8))  # fmt: skip
        text = text[:at] + piece + text[at + draw(st.integers(0, 12)) :]
    encoding = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "utf-32")))
    return text.encode(encoding, "surrogatepass")


@st.composite
def damaged_json(draw: st.DrawFn, value: Any) -> bytes:
    """A JSON document with parts replaced, removed, renamed or repeated."""
    document = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        branches = [branch for branch in _branches(document) if branch]
        if not branches:
            break
        branch = draw(st.sampled_from(branches))
        key = draw(st.sampled_from(list(branch) if isinstance(branch, dict) else range(len(branch))))
        kind = draw(st.sampled_from(("junk", "remove", "rename", "swap")))
        if kind == "remove":
            del branch[key]
        elif kind == "rename" and isinstance(branch, dict):
            branch[draw(st.sampled_from(("", "class_name", "module", "config")) | st.text(max_size=5))] = branch.pop(
                key
            )
        elif kind == "swap":
            other = draw(st.sampled_from(branches))
            branch[key] = json.loads(
                json.dumps(draw(st.sampled_from(list(other.values() if isinstance(other, dict) else other))))
            )
        else:
            branch[key] = json.loads(json.dumps(draw(_JUNK)))  # a copy, as later changes may go into it
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _branches(tree: Any) -> list[Any]:
    """All dicts and lists of a JSON tree, from the outside in."""
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    return [] if parts is None else [tree, *(branch for part in parts for branch in _branches(part))]


@st.composite
def damaged_archive(draw: st.DrawFn, sample: bytes) -> bytes:
    """A zip archive (.npz, .keras, .xlsx) with one member damaged, left out or renamed, or damaged as a whole."""
    kind = draw(st.sampled_from(("member", "member", "member", "leave out", "rename", "whole")))
    if kind == "whole":
        return draw(damaged_bytes([sample]))
    with zipfile.ZipFile(io.BytesIO(sample)) as archive:
        members: Mapping[str, bytes] = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from(list(members)))
    content = members[name]
    if kind == "member":
        if name.endswith(".json"):
            content = draw(damaged_json(json.loads(content)))
        else:
            content = draw(
                damaged_bytes([content, *(other for other in members.values() if len(other) < len(content))])
            )
    names = {name: draw(st.text(min_size=1, max_size=5)) if kind == "rename" else name}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member, data in members.items():
            if member != name:
                archive.writestr(member, data)
            elif kind != "leave out":
                archive.writestr(names[name], content)
    return file.getvalue()
