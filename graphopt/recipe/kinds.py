"""What kinds of type an option may have, and how they and their values are called in messages."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from graphopt.recipe.schema import kebab

SCALARS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "strings", bool: "truth values"}


def is_fixed(kind: Any) -> bool:
    """Whether a tuple has a fixed number of items."""
    args = typing.get_args(kind)
    return typing.get_origin(kind) is tuple and bool(args) and args[-1] is not Ellipsis


def is_sequence(kind: Any) -> bool:
    """Whether TOML writes values of this type as a list."""
    origin = typing.get_origin(kind) or kind
    return origin in (tuple, list, set, frozenset, Sequence, Iterable)


def is_mapping(kind: Any) -> bool:
    """Whether TOML writes values of this type as a table with any keys."""
    return (typing.get_origin(kind) or kind) in (dict, Mapping)


def is_enum(kind: Any) -> bool:
    """Whether a type is an enum."""
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def spellings(kind: Any) -> dict[Any, Any]:
    """Return meaning by spelling; an enum whose values are not strings is spelt by its names."""
    if not is_enum(kind):
        return {choice: choice for choice in typing.get_args(kind)}
    members: Iterable[enum.Enum] = kind
    return {m.value if isinstance(m.value, str) else kebab(m.name.lower()): m for m in members}


def expected(kind: Any) -> str:
    """Say what a value of this type must be: "a list of 2 whole numbers"."""
    if kind in SCALARS:
        return SCALARS[kind]
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        args = [arg for arg in typing.get_args(kind) if arg is not types.NoneType]
        return " or ".join(expected(arg) for arg in args)
    if typing.get_origin(kind) is Literal or is_enum(kind):
        names = [quoted(name) for name in spellings(kind)]
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    if is_sequence(kind):
        args = [arg for arg in typing.get_args(kind) if arg is not Ellipsis]
        count = f"{len(args)} " if is_fixed(kind) else ""
        return f"a list of {count}{_plural(args[0]) if args else 'values'}"
    return "a table"


def _plural(kind: Any) -> str:
    if dataclasses.is_dataclass(kind) or is_mapping(kind):
        return "tables"
    return _PLURALS.get(kind, "values")


def shown(value: Any) -> str:
    """Say what a value is, short enough for one line."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list" if len(value) > 4 else f"`[{', '.join(quoted(v) for v in value)}]`"
    return f"`{quoted(value)}`"


def quoted(value: Any) -> str:
    """Return a scalar as TOML writes it."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)
