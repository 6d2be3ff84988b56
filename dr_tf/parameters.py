"""Check the parameters that a config sets against the type annotations of what they configure.

A configurable states the type and range of each parameter once, in its annotation, such as `epochs: Count`. `checked` refuses
other values with one line. `describe` words an annotation, for these lines and for the documentation.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le, Lt

from dr_tf.console import UserError

Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
PositiveShare = Annotated[float, Interval(gt=0, le=1)]
Fraction = Annotated[float, Interval(ge=0, lt=1)]
ImageSize = Annotated[int, Interval(ge=16, le=8192)]

_WORDS = {int: "an integer", float: "a number", str: "a text", bool: "True or False", type(None): "None"}
_EXAMPLES = {"Head": "softmax", "Sampling": "shuffled"}  # class -> a configurable that builds one, where names differ
_BOUNDS = {"ge": "at least {}", "gt": "greater than {}", "le": "at most {}", "lt": "less than {}"}


def checked(name: str, configurable: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function or class so that each argument is checked against its annotation.

    Args:
        name: what a config calls it, for error messages.
        configurable: the function or class.

    Returns:
        A function with the same signature. It raises UserError, naming the parameter, the value and what is expected.
    """
    annotations = annotations_of(configurable)
    signature = inspect.signature(configurable)

    @functools.wraps(configurable, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind_partial(*args, **kwargs).arguments
        for parameter, value in given.items():
            check(f"{name}.{parameter}", value, annotations.get(parameter, Any))
        return configurable(*args, **kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]  # gin reads the names of parameters here
    return call


def check(name: str, value: Any, annotation: Any) -> None:
    """Raise UserError if a value is not of the annotated type or not in its range."""
    from pydantic import ValidationError  # a third of a second, and only configs need it

    if annotation is Any:
        return
    try:
        _adapter(annotation).validate_python((_tuples(value),))
    except ValidationError:
        hint = ", with brackets" if any(map(_is_reference, _items(value))) else ""
        raise UserError(f"{name} must be {describe(annotation)}{hint}, not {_written(value)}") from None


def _items(value: Any) -> list[Any]:
    return [value, *(value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ())]


def _written(value: Any) -> str:
    """Return a value as a config writes it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_written(item)}' for key, item in value.items())}}}"
    return f"@{_snake_case(value.__name__)}" if _is_reference(value) else repr(value)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _is_reference(value: Any) -> bool:
    return inspect.isroutine(value) or inspect.isclass(value)


@functools.cache
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    strict = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    # In a tuple, as pydantic takes no config for a class of ours alone.
    return TypeAdapter(tuple[_by_instance(annotation)], config=strict)  # type: ignore[misc, arg-type]


def _by_instance(annotation: Any) -> Any:
    """Have classes checked by isinstance: pydantic would check a dataclass field by field.

    Protocols that isinstance cannot check are not checked.
    """
    from pydantic import InstanceOf

    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or isinstance(annotation, _Unknown):
        return Any
    if origin is Annotated:
        return Annotated[(_by_instance(arguments[0]), *arguments[1:])]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(map(_by_instance, arguments))]  # noqa: UP007 - of a tuple
    if origin in (tuple, list, dict, collections.abc.Sequence, collections.abc.Mapping):
        return origin[tuple(a if a is Ellipsis else _by_instance(a) for a in arguments)]
    if not inspect.isclass(annotation) or annotation in _WORDS or origin is not None:
        return annotation
    unchecked = getattr(annotation, "_is_protocol", False) and not getattr(annotation, "_is_runtime_protocol", False)
    return Any if unchecked else InstanceOf[annotation]  # type: ignore[misc]


def _tuples(value: Any) -> Any:
    """Return lists as tuples: a config may write either."""
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def annotations_of(configurable: Callable[..., Any]) -> dict[str, Any]:
    """Return {parameter: annotation} of a function, or of the fields of a dataclass.

    A type that a module imports only for type checkers is replaced by Any.
    """
    unknown: dict[str, Any] = {}
    while True:
        try:
            return typing.get_type_hints(configurable, localns=unknown, include_extras=True)
        except NameError as error:
            unknown[str(error.name)] = _Unknown()


class _Unknown:
    """Stands for a module or a type that is not imported. Values of such a type are not checked."""

    def __getattr__(self, name: str) -> Any:
        return Any

    def __or__(self, other: Any) -> Any:
        return Any

    __ror__ = __getitem__ = __call__ = __or__


def describe(annotation: Any) -> str:
    """Word an annotation, such as "an integer, at least 1" or "'best' or 'last'"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or isinstance(annotation, _Unknown):
        return "any value"
    if origin is Annotated:
        return ", ".join([describe(arguments[0]), *_bounds(arguments[1:])])
    if origin is Literal:
        return _either([repr(choice) for choice in arguments])
    if origin in (typing.Union, types.UnionType):
        return _either([describe(argument) for argument in arguments])
    if origin is tuple and Ellipsis not in arguments:
        return f"({', '.join(_noun(describe(argument)) for argument in arguments)})"
    if origin in (tuple, list, collections.abc.Sequence):
        return f"a list, each {describe(arguments[0])}"
    if origin in (dict, collections.abc.Mapping):
        return f"{{{_noun(describe(arguments[0]))}: {_noun(describe(arguments[1]))}}}"
    if origin is collections.abc.Callable or annotation is Callable:
        return "a reference such as @classifier"
    if annotation in _WORDS:
        return _WORDS[annotation]
    return f"an object such as @{_EXAMPLES.get(annotation.__name__) or _snake_case(annotation.__name__)}()"


def _bounds(metadata: tuple[Any, ...]) -> list[str]:
    bounds = []
    for item in metadata:
        for each in item if isinstance(item, Interval) else [item]:
            if isinstance(each, (Ge, Gt, Le, Lt)):
                kind = type(each).__name__.lower()
                bounds.append(_BOUNDS[kind].format(f"{getattr(each, kind):g}"))
    return bounds


def _either(words: list[str]) -> str:
    words = list(dict.fromkeys(words))
    comma = "," if any("," in word for word in words[:-1]) else ""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])}{comma} or {words[-1]}"


def _noun(words: str) -> str:
    return words.removeprefix("a ").removeprefix("an ")
