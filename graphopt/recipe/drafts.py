"""Recipes before they are checked: TOML tables that remember where every value was written."""

from __future__ import annotations

import copy
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.errors import RecipeError
from graphopt.recipe.positions import Path, Span, find_positions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path as FilePath

_EXCERPT_COLUMNS = 96
_PATHS = (("calibration", "data"), ("calibration", "extra"), ("limits", "validation"))
"""Values that are paths."""


@dataclass(frozen=True)
class Place:
    """Where a value was written.

    Args:
        origin: a file, a preset, or a command-line option.
        line: number of the line, from 1; None where there are no lines.
        text: the line, or the argument, itself.
        column: first character of the key in ``text``, from 0.
        width: number of characters of the key.
    """

    origin: str
    line: int | None = None
    text: str = ""
    column: int = 0
    width: int = 0

    def __str__(self) -> str:
        return self.origin if self.line is None else f"{self.origin}:{self.line}"

    def excerpt(self) -> str:
        """Return the place followed by the line with its key underlined, for an error message."""
        if self.line is None:
            return f"{self.origin} {self.text}".rstrip()
        if self.column + self.width > _EXCERPT_COLUMNS:
            return str(self)
        number = f"{self.line:>5}"
        text = self.text[:_EXCERPT_COLUMNS].replace("\t", " ").rstrip()
        return f"{self}\n{number} | {text}\n      | {' ' * self.column}{'^' * self.width}"


@dataclass
class Draft:
    """One layer of a recipe: a table in TOML spelling, and the place of each of its values."""

    table: dict[str, Any] = field(default_factory=dict)
    places: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path) -> Place | None:
        """Return the place of a value, or of the nearest table or list that holds it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return None

    def error(
        self, message: str, path: Path, *, code: str = "G103", hint: str | None = None
    ) -> RecipeError:
        """Return the error that points at a value of this draft."""
        place = self.place(path)
        return RecipeError(message, code=code, where=place.excerpt() if place else None, hint=hint)


def parse_draft(text: str, origin: str, *, root: tuple[str, ...] = ()) -> Draft:
    """Read a TOML text.

    Args:
        text: the document.
        origin: what errors call it: usually the path of the file.
        root: the table that holds the recipe; its keys are left out of every path.

    Raises:
        RecipeError: G101 with the line, the text is not TOML; G103, the root is not a table.
    """
    table, spans = _loads(text, origin)
    lines = text.split("\n")
    places = {path: _place(origin, lines, span) for path, span in spans.items()}
    for depth, key in enumerate(root, 1):
        table = table.get(key, {})
        if not isinstance(table, dict):
            whole = Draft({}, places)
            raise whole.error(f"`{'.'.join(root[:depth])}` must be a table", root[:depth])
    inside = {path[len(root) :]: at for path, at in places.items() if path[: len(root)] == root}
    inside.setdefault((), Place(origin))
    return Draft(table, inside)


def _loads(text: str, origin: str) -> tuple[dict[str, Any], Mapping[Path, Span]]:
    try:
        return tomllib.loads(text), find_positions(text)
    except RecursionError as error:
        raise RecipeError("lists are nested too deeply", code="G101", where=origin) from error
    except ValueError as error:  # tomllib's own error, or a number with thousands of digits
        reason = re.sub(r" \(at (line|end).*\)$", "", str(error))
        found = re.search(r"at line (\d+), column (\d+)\)$", str(error))
        lines = text.split("\n")
        number = int(found[1]) if found else len(text.rstrip().split("\n"))
        column = int(found[2]) - 1 if found else len(lines[number - 1])
        where = Place(origin, number, lines[number - 1].rstrip("\r"), column, 1).excerpt()
        raise RecipeError(f"not valid TOML: {reason}", code="G101", where=where) from error


def _place(origin: str, lines: list[str], span: Span) -> Place:
    text = lines[span.line - 1].rstrip("\r")
    return Place(origin, span.line, text, span.column, span.width)


def read_draft(path: FilePath, *, root: tuple[str, ...] = ()) -> Draft:
    """Read a TOML file; relative paths in it start at its folder.

    Raises:
        RecipeError: G109, the file cannot be read; G101, it is not TOML in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecipeError("not UTF-8 text", code="G101", where=f"{path}:{line}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecipeError(
            f"cannot read the recipe: {reason}", code="G109", where=str(path)
        ) from error
    draft = parse_draft(text, str(path), root=root)
    for section, key in _PATHS:
        table = draft.table.get(section)
        data = table.get(key) if isinstance(table, dict) else None
        if isinstance(table, dict) and isinstance(data, str) and "://" not in data:
            table[key] = str(path.parent / data)
    return draft


def single(path: tuple[str, ...], value: Any, place: Place) -> Draft:
    """Return the layer that sets one value."""
    table: dict[str, Any] = {path[-1]: value}
    for key in reversed(path[:-1]):
        table = {key: table}
    return Draft(table, {path[:length]: place for length in range(1, len(path) + 1)})


def merge(lower: Draft, upper: Draft) -> Draft:
    """Return ``lower`` with the values of ``upper`` on top.

    Tables are merged key by key; a list, the list of passes too, replaces the lower one as a whole.
    Another observer drops the options of the lower one.
    """
    result = Draft(copy.deepcopy(lower.table), dict(lower.places))
    if _observer(upper) not in (None, _observer(lower)):
        _forget(result, ("calibration", "observer-options"))
    _overlay(result, result.table, upper, upper.table, ())
    return result


def _observer(draft: Draft) -> Any:
    calibration = draft.table.get("calibration")
    return calibration.get("observer") if isinstance(calibration, dict) else None


def _forget(draft: Draft, path: tuple[str, str]) -> None:
    section = draft.table.get(path[0])
    if isinstance(section, dict):
        section.pop(path[1], None)
    draft.places = {at: place for at, place in draft.places.items() if at[: len(path)] != path}


def _overlay(
    result: Draft, target: dict[str, Any], upper: Draft, source: dict[str, Any], prefix: Path
) -> None:
    if (place := upper.places.get(prefix)) is not None:
        result.places[prefix] = place
    for key, value in source.items():
        path = (*prefix, key)
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _overlay(result, target[key], upper, value, path)
            continue
        target[key] = copy.deepcopy(value)
        kept = {at: p for at, p in result.places.items() if at[: len(path)] != path}
        new = {at: p for at, p in upper.places.items() if at[: len(path)] == path}
        result.places = {**kept, path: upper.place(path) or Place("default"), **new}
