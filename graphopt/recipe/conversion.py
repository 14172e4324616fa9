"""Turn TOML tables into frozen dataclasses and back, strictly: no value is ever coerced."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import inspect
import math
import pathlib
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import graphopt.types
from graphopt.errors import RecipeError
from graphopt.recipe.kinds import (
    SCALARS,
    expected,
    is_enum,
    is_fixed,
    is_mapping,
    is_sequence,
    quoted,
    shown,
    spellings,
)
from graphopt.recipe.schema import PassEntry, kebab, snake
from graphopt.recipe.suggest import suggestion

if TYPE_CHECKING:
    from cattrs import Converter

    from graphopt.recipe.positions import Path

T = TypeVar("T")

_ENTRY_HINT = "write each pass as a table that starts with [[passes]]"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a table.

    Args:
        path: the value, from the root of the table, in TOML spelling.
        says: continues a sentence that starts with the name of the value.
        hint: what to do about it.
        unknown: the key itself is the mistake.
    """

    path: Path
    says: str
    hint: str | None = None
    unknown: bool = False


class UnfitError(ValueError):
    """A value does not fit its type; ``says`` continues a sentence that starts with its name."""

    def __init__(self, says: str, *, key: str | None = None, hint: str | None = None) -> None:
        super().__init__(says)
        self.says = says
        self.key = key
        self.hint = hint


class UnfitTableError(Exception):
    """A table does not fit its dataclass; holds every problem that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def to_dataclass(table: Mapping[str, Any], kind: type[T]) -> T:
    """Build ``kind`` from a table in TOML spelling.

    Raises:
        UnfitTableError: keys are unknown, or values have the wrong type or range.
    """
    from cattrs.errors import BaseValidationError

    try:
        value = _converter().structure(table, kind)
    except BaseValidationError as error:
        raise UnfitTableError(list(_leaves(error, ()))) from error
    if problems := list(range_problems(value)):
        raise UnfitTableError(problems)
    return value


def to_table(value: Any) -> Any:
    """Return a value as TOML can hold it: tables in TOML spelling, lists, scalars; no None."""
    if isinstance(value, PassEntry):
        return {"use": value.use} | {kebab(k): to_table(v) for k, v in value.options.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init)
        return {kebab(name): to_table(item) for name, item in named if item is not None}
    if isinstance(value, Mapping):
        return {str(key): to_table(item) for key, item in value.items() if item is not None}
    if isinstance(value, enum.Enum):
        return next(name for name, member in spellings(type(value)).items() if member is value)
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [
            to_table(item)
            for item in (sorted(value) if isinstance(value, set | frozenset) else value)
        ]
    return value


def range_problems(value: Any, path: Path = ()) -> Iterator[Problem]:
    """Yield what is outside the ``minimum`` or ``above`` of its field's metadata, and NaN.

    ``must`` in the metadata is function(value) -> what it must be, or None where it is that.
    """
    for field in dataclasses.fields(value):
        item, at = getattr(value, field.name), (*path, kebab(field.name))
        if dataclasses.is_dataclass(item):
            yield from range_problems(item, at)
            continue
        must = field.metadata.get("must") if item is not None else None
        if must is not None and (says := must(item)):
            yield Problem(at, f"must be {says}, got {shown(item)}")
            continue
        for number in item if isinstance(item, tuple) else (item,):
            if isinstance(number, int | float) and (says := _out_of_range(number, field.metadata)):
                yield Problem(at, f"must be {says}, got `{number}`")
                break


def _out_of_range(number: float, metadata: Mapping[Any, Any]) -> str | None:
    if math.isnan(number):
        return "a number"
    if "minimum" in metadata and number < metadata["minimum"]:
        return f"at least {metadata['minimum']}"
    if "above" in metadata and number <= metadata["above"]:
        return f"above {metadata['above']}"
    return None


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter(detailed_validation=True, forbid_extra_keys=True)

    def on(matches: Callable[[Any], bool], build: Callable[[Any, Any, Converter], Any]) -> None:
        converter.register_structure_hook_func(matches, lambda v, kind: build(v, kind, converter))

    # cattrs asks the hook registered last first; each of these is narrower than cattrs' own.
    on(is_sequence, _to_sequence)
    on(is_mapping, _to_mapping)
    on(lambda kind: kind in (Any, object), lambda value, _kind, _converter: value)
    on(lambda kind: typing.get_origin(kind) is Literal, _to_choice)
    on(lambda kind: typing.get_origin(kind) in (types.UnionType, typing.Union), _to_union)
    converter.register_structure_hook_factory(dataclasses.is_dataclass, _table_hook)
    converter.register_structure_hook(PassEntry, _to_pass_entry)
    converter.register_structure_hook(pathlib.Path, _to_path)
    converter.register_structure_hook(enum.Enum, _to_choice)
    for scalar in SCALARS:
        converter.register_structure_hook(scalar, _to_scalar)
    return converter


def _table_hook(kind: type[Any], converter: Converter) -> Callable[[Any, type[Any]], Any]:
    from cattrs.gen import make_dict_structure_fn, override

    spelling: dict[str, Any] = {
        field.name: override(rename=kebab(field.name))
        for field in dataclasses.fields(kind)
        if field.init
    }
    _resolve_annotations(kind)
    build = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, **spelling)

    def structure(value: Any, _: type[Any]) -> Any:
        if not isinstance(value, Mapping):
            raise _unfit(value, kind)
        return build(dict(value), kind)

    return structure


def _resolve_annotations(kind: type[Any]) -> None:
    """Replace string annotations of the fields by types, where cattrs looks for them.

    Linters move imports that only annotations need under ``if TYPE_CHECKING:``, so names that the
    module does not have at run time are looked up where such imports usually come from.
    """
    usual = {**vars(typing), **vars(collections.abc), **vars(pathlib), **vars(graphopt.types)}
    for base in kind.__mro__:
        known = usual | getattr(sys.modules.get(base.__module__), "__dict__", {})
        own = inspect.get_annotations(base)
        for field in dataclasses.fields(kind):
            if isinstance(field.type, str) and own.get(field.name) == field.type:
                holder = type(kind.__name__, (), {"__annotations__": {field.name: field.type}})
                field.type = typing.get_type_hints(holder, known)[field.name]


def _to_pass_entry(value: Any, _: type[PassEntry]) -> PassEntry:
    if not isinstance(value, Mapping):
        raise _unfit(value, PassEntry, hint=_ENTRY_HINT)
    if "use" not in value:
        raise UnfitError("needs `use`, the name of a pass", hint='add use = "fold-constants"')
    if not isinstance(value["use"], str):
        raise UnfitError(f"must be a string, got {shown(value['use'])}", key="use")
    for key in value:
        if "_" in key:
            raise UnfitError("is not spelt as in TOML", key=key, hint=f"write `{kebab(key)}`")
    return PassEntry(value["use"], {snake(k): v for k, v in value.items() if k != "use"})


def _to_scalar(value: Any, kind: Any) -> Any:
    if is_enum(kind):  # cattrs finds an IntEnum or StrEnum through its base class
        return _to_choice(value, kind)
    if kind is float and type(value) is int:
        return _to_float(value)
    if type(value) is not kind:
        raise _unfit(value, kind)
    return value


def _to_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise UnfitError("is too large for a number with a fraction") from None


def _to_path(value: Any, kind: Any) -> Any:
    if not isinstance(value, str):
        raise _unfit(value, str)
    return kind(value)


def _to_choice(value: Any, kind: Any, _: Converter | None = None) -> Any:
    for spelling, meaning in spellings(kind).items():
        if type(value) is type(spelling) and value == spelling:
            return meaning
    raise _unfit(value, kind)


def _to_union(value: Any, kind: Any, converter: Converter) -> Any:
    choices = [arg for arg in typing.get_args(kind) if arg is not types.NoneType]
    if value is None and len(choices) < len(typing.get_args(kind)):
        return None
    if len(choices) == 1:
        return converter.structure(value, choices[0])
    for choice in choices:
        try:
            return converter.structure(value, choice)
        except Exception:  # noqa: S112 - the next choice may fit; if none does, all are named
            continue
    raise _unfit(value, kind)


def _to_mapping(value: Any, kind: Any, converter: Converter) -> Any:
    if not isinstance(value, Mapping):
        raise _unfit(value, kind)
    args = typing.get_args(kind)
    inner = args[1] if len(args) == 2 else Any
    return {key: converter.structure(item, inner) for key, item in value.items()}


def _to_sequence(value: Any, kind: Any, converter: Converter) -> Any:
    from cattrs.errors import IterableValidationError, IterableValidationNote

    if not isinstance(value, list | tuple):
        raise _unfit(value, kind, hint=_list_hint(value, kind))
    result, errors = [], []
    for index, (item, inner) in enumerate(zip(value, _item_types(value, kind), strict=True)):
        try:
            result.append(converter.structure(item, inner))
        except Exception as error:
            error.add_note(IterableValidationNote(f"item {index}", index, inner))
            errors.append(error)
    if errors:
        raise IterableValidationError("list", errors, kind)
    origin = typing.get_origin(kind) or kind
    return origin(result) if origin in (tuple, list, set, frozenset) else tuple(result)


def _list_hint(value: Any, kind: Any) -> str | None:
    args = typing.get_args(kind)
    if PassEntry in args:
        return _ENTRY_HINT
    return f"write [{quoted(value)}]" if type(value) in args else None


def _item_types(value: Sequence[Any], kind: Any) -> list[Any]:
    args = typing.get_args(kind) or (Any, ...)
    if is_fixed(kind):
        if len(args) != len(value):
            raise _unfit(value, kind)
        return list(args)
    return [args[0]] * len(value)


def _unfit(value: Any, kind: Any, *, hint: str | None = None) -> UnfitError:
    return UnfitError(f"must be {expected(kind)}, got {shown(value)}", hint=hint)


def _leaves(error: BaseException, path: Path) -> Iterator[Problem]:
    """Walk the tree of errors that cattrs raises; yield what is wrong at its leaves."""
    from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError

    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from _leaves(inner, (*path, *_step(inner)))
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [kebab(f.name) for f in dataclasses.fields(error.cl) if f.init]
        for key in sorted(error.extra_fields):
            hint = suggestion(key, known, "keys")
            yield Problem((*path, key), "is not known", hint, unknown=True)
    elif isinstance(error, UnfitError):
        inside = (*path, error.key) if error.key else path
        spelling = error.key not in (None, "use")
        yield Problem(inside, error.says, error.hint, unknown=spelling)
    elif isinstance(error, RecipeError):
        yield Problem(path, f"cannot be used: {error.message}", error.hint)
    elif isinstance(error, KeyError):
        yield Problem(path, "is required")
    else:
        yield Problem(path, f"cannot be used: {error}")


def _step(error: BaseException) -> Path:
    """Return the key or index that leads to an error; the notes are how cattrs records it."""
    from cattrs.errors import AttributeValidationNote, IterableValidationNote

    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (kebab(note.name),)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()
