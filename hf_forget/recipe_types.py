"""From what a recipe or the command line says to what a config field is annotated with, and back into words."""

import math
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from .errors import InputError, suggestion
from .recipe_yaml import read_yaml, resolve_scalar

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    type(None): "null",
    Any: "anything",
}
_LISTS = (list, tuple, Sequence)
_MAPPINGS = (dict, Mapping)


class TypeMismatch(ValueError):
    """A value does not fit its annotation."""


def coerce(value: Any, hint: Any) -> Any:
    """Return `value` as the annotation `hint` wants it.

    A whole number is accepted where a number is wanted and becomes a `float`; every other difference is an error.
    Enum fields take the value of a member, as text. Text must be encodable as UTF-8, numbers must be finite.

    Args:
        value: A value as `read_yaml` gives it: `None`, bool, int, float, str, list or dict.
        hint: A resolved annotation: a plain type, `Literal`, an enum, a union, or a list, tuple or dict of those.

    Raises:
        TypeMismatch: If the value does not fit.
    """
    hint = _plain(hint)
    origin = get_origin(hint)
    if hint is Any:
        _check_anything(value)
        return value
    if origin in (Union, types.UnionType):
        return _coerce_union(value, hint)
    if origin is Literal:
        if any(type(value) is type(choice) and value == choice for choice in get_args(hint)):
            return value
    elif (origin or hint) in _LISTS:
        return _coerce_list(value, hint, origin)
    elif (origin or hint) in _MAPPINGS:
        if isinstance(value, dict):
            key_hint, item_hint = get_args(hint) or (Any, Any)
            return {coerce(key, key_hint): coerce(item, item_hint) for key, item in value.items()}
    elif isinstance(hint, type):
        return _coerce_plain(value, hint)
    raise TypeMismatch(_expected(value, hint))


def parse_argument(text: str, hint: Any) -> Any:
    """Return what `text`, an argument of the command line, means for a field annotated with `hint`.

    The text is read as a scalar of a recipe would be, then as `[a, b]` or `{a: b}`, then as the bare text, and for
    fields that hold a list as `a,b`; the first reading that fits counts.

    Raises:
        TypeMismatch: If no reading fits.
    """
    readings: list[Any] = [resolve_scalar(text)] if text else []
    if text[:1] in ("[", "{"):
        try:
            reading = read_yaml(f"value: {text}", "argument")["value"].value
            readings.insert(0, reading)
            if isinstance(reading, list) and not any(isinstance(item, list | dict) for item in reading):
                # `[1984]` is a list of one text where texts are wanted.
                readings.insert(1, [item.strip().strip("'\"") for item in text[1:-1].split(",")])
        except InputError as error:
            if not accepts(hint, str):
                raise TypeMismatch(f"expected {describe(hint)}, got {shown(text)}, which cannot be read") from error
    readings.append(text)
    if accepts(hint, list) and not accepts(hint, str):
        readings.append([resolve_scalar(part.strip()) for part in text.split(",") if part.strip()])
        readings.append([part.strip() for part in text.split(",") if part.strip()])
    for reading in readings:
        try:
            return coerce(reading, hint)
        except TypeMismatch:
            continue
    raise TypeMismatch(_expected(readings[0], hint))


def accepts(hint: Any, kind: type) -> bool:
    """Return whether `kind` (such as `str` or `list`) is one of the types that the annotation names."""
    return any((get_origin(member) or member) is kind for member in _members(hint))


def describe(hint: Any) -> str:
    """Return the annotation in words: `a whole number`, `a list of text or null` …"""
    words = [_describe_member(member) for member in _members(hint)]
    return " or ".join(dict.fromkeys(words))


def shown(value: Any) -> str:
    """Return the value as it should appear in a message: quoted when it is text, and cut when long."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _members(hint: Any) -> list[Any]:
    """Return the alternatives of a union (or the hint alone); text is no alternative beside an enum of texts."""
    hint = _plain(hint)
    if get_origin(hint) not in (Union, types.UnionType):
        return [hint]
    members = [member for argument in get_args(hint) for member in _members(argument)]
    if any(_is_enum(member) for member in members):
        members = [member for member in members if member is not str]
    return members


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def _choices(hint: Any) -> list[Any]:
    choices: list[Any] = []
    for member in _members(hint):
        if get_origin(member) is Literal:
            choices.extend(get_args(member))
        elif _is_enum(member):
            choices.extend(item.value for item in member)
    return choices


def _describe_member(hint: Any) -> str:
    origin = get_origin(hint) or hint
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is Literal or _is_enum(hint):
        choices = ", ".join(repr(choice) if isinstance(choice, str) else str(choice) for choice in _choices(hint))
        return f"one of {choices}"
    if origin in _LISTS:
        items = [argument for argument in get_args(hint) if argument is not Ellipsis]
        return f"a list of {describe(items[0])}" if items else "a list"
    if origin in _MAPPINGS:
        return "a mapping"
    return f"a {getattr(hint, '__name__', hint)} (only from Python)"


def _expected(value: Any, hint: Any) -> str:
    nearest = (
        suggestion(value, [choice for choice in _choices(hint) if isinstance(choice, str)])
        if isinstance(value, str)
        else ""
    )
    quoted = ""
    if accepts(hint, str) and isinstance(value, bool | int | float):
        quoted = f" Quote it if it is meant as text: '{shown(value)}'."
    return f"expected {describe(hint)}, got {shown(value)}.{nearest}{quoted}"


def _coerce_union(value: Any, hint: Any) -> Any:
    members = _members(hint)
    # An exact type goes first, so that `int | float` keeps a whole number whole.
    for member in sorted(members, key=lambda member: type(value) is not member):
        try:
            return coerce(value, member)
        except TypeMismatch:
            continue
    raise TypeMismatch(_expected(value, hint))


def _coerce_list(value: Any, hint: Any, origin: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise TypeMismatch(_expected(value, hint))
    arguments = [argument for argument in get_args(hint) if argument is not Ellipsis]
    item_hints: list[Any] = [arguments[0] if arguments else Any] * len(value)
    if (origin or hint) is tuple and len(get_args(hint)) > 1 and Ellipsis not in get_args(hint):
        item_hints = arguments
        if len(value) != len(arguments):
            raise TypeMismatch(f"expected {len(arguments)} values, got {len(value)}.")
    items = [coerce(item, item_hint) for item, item_hint in zip(value, item_hints, strict=True)]
    return tuple(items) if (origin or hint) is tuple else items


def _coerce_plain(value: Any, hint: type) -> Any:
    if _is_enum(hint):
        if isinstance(value, Enum):
            value = value.value
        if value in [item.value for item in hint]:  # type: ignore[attr-defined]
            return value
    elif hint is float and type(value) in (int, float):
        if math.isfinite(value):
            return float(value)
    elif hint in (str, Path) and isinstance(value, str | Path):
        _check_unicode(str(value))
        return hint(value)
    elif hint is int and type(value) is int:
        if abs(value) < 10**18:
            return value
    elif hint in (bool, type(None)) and type(value) is hint:
        return value
    raise TypeMismatch(_expected(value, hint))


def _check_anything(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_anything(key)
            _check_anything(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_anything(item)
    elif isinstance(value, str):
        _check_unicode(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise TypeMismatch(f"expected finite numbers, got {shown(value)}.")


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TypeMismatch(f"expected Unicode text, got {shown(text)}, which cannot be written as UTF-8.") from error
