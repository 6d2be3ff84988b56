"""The form of a request: photographs and settings as multipart/form-data, read into memory within limits."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from dr_tf.grades import EYES
from dr_tf.inference.patients import parse_age, parse_sex
from dr_tf.safe_names import printable
from dr_tf.serve.limits import Limits, too_large
from dr_tf.serve.request_error import RequestError

IMAGE = "image"
FILES = (IMAGE, *EYES)
VALUES = ("prevalence", "point", "age", "sex")
_MOST = len(FILES) + len(VALUES)
_LONGEST_NAME = 255
_LONGEST_VALUE = 1000  # bytes


@dataclasses.dataclass(frozen=True)
class UploadedFile:
    """A photograph as it was sent.

    Attributes:
        field: "image", "left" or "right".
        name: the last part of its file name. It is text only, and is never opened.
        data: the bytes of the file.
    """

    field: str
    name: str
    data: bytes


@dataclasses.dataclass(frozen=True)
class Form:
    """The photographs and settings of a request.

    Attributes:
        files: one `image`, or `left` and `right` or one of them, left before right.
        point: the name of an operating point; None for the service's own.
        prevalence: the prevalence of positives; None for the service's own.
        age: of the patient in years; None if it is not given.
        sex: "female", "male", or "" if it is not given.
    """

    files: tuple[UploadedFile, ...]
    point: str | None = None
    prevalence: float | None = None
    age: float | None = None
    sex: str = ""


class _InMemory(MultiPartParser):
    """A parser that writes no photograph to a temporary file: `_limited` keeps its input small enough for the memory."""

    spool_max_size = sys.maxsize
    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def read_form(headers: Headers, stream: AsyncIterator[bytes], limits: Limits) -> Form:
    """Read the form of a request.

    Args:
        headers: of the request.
        stream: its body.
        limits: of the service.

    Raises:
        RequestError: 413 for too many bytes, 415 for another content type, 422 for a form with wrong fields.
    """
    if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestError(415, "send the photograph as multipart/form-data, with curl: -F image=@FILE")
    parser = _InMemory(
        headers, _limited(stream, limits), max_files=_MOST, max_fields=_MOST, max_part_size=_LONGEST_VALUE
    )
    try:
        items = (await parser.parse()).multi_items()
        if not parser.is_complete:
            raise MultiPartException("its end is missing")
    except (MultiPartException, UnicodeError, ValueError) as error:
        detail = getattr(error, "message", "") or "it is not multipart/form-data as its header says"
        raise RequestError(422, f"the form cannot be read: {printable(detail.rstrip('.'))}") from None
    return await _as_form(items)


async def _limited(stream: AsyncIterator[bytes], limits: Limits) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > limits.request_bytes:
            raise too_large(limits)
        yield chunk


async def _as_form(items: Sequence[tuple[str, UploadFile | str]]) -> Form:
    files: dict[str, UploadedFile] = {}
    values: dict[str, str] = {}
    for field, value in items:
        _check_field(field, value)
        if not (value if isinstance(value, str) else value.filename or value.size):
            continue  # a browser sends all fields of a page, also those that are left empty
        if field in files or field in values:
            raise RequestError(422, f"the field {field} is there twice")
        if isinstance(value, str):
            values[field] = value.strip()
        else:
            files[field] = UploadedFile(field, _name(value.filename), await value.read())
            await value.close()
    if (IMAGE in files and len(files) > 1) or not files:
        raise RequestError(422, "send one photograph as image, or one or two as left and right")
    return Form(
        tuple(files[field] for field in FILES if field in files),
        values.get("point") or None,
        _prevalence(values.get("prevalence")),
        _parsed(parse_age, values.get("age")),
        _parsed(parse_sex, values.get("sex")),
    )


def _check_field(field: str, value: UploadFile | str) -> None:
    if field in FILES and isinstance(value, str) and value:
        raise RequestError(422, f"the field {field} has to be a file, with curl: -F {field}=@FILE")
    if field not in FILES and (field not in VALUES or not isinstance(value, str)):
        known = f"files: {', '.join(FILES)}; values: {', '.join(VALUES)}"
        raise RequestError(422, f"the field {printable(field)} is not known ({known})")


def _name(name: str | None) -> str:
    """The last part of a file name, which some clients send with a path."""
    return re.split(r"[/\\]", name or "")[-1][-_LONGEST_NAME:] or "photograph"


def _prevalence(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise RequestError(422, f"the prevalence is a number between 0 and 1, not {printable(text)}") from None


def _parsed(parse, text):
    try:
        return parse(text)
    except ValueError as error:
        raise RequestError(422, str(error)) from None
