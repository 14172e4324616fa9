"""Docstrings and dataclasses as Markdown."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import TYPE_CHECKING, Any

from graphopt.recipe.schema import kebab

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def documented(thing: object) -> tuple[str, dict[str, str]]:
    """Return the text of a docstring, and what its Args section says, by name."""
    doc = inspect.getdoc(thing) or ""
    body, *sections = re.split(r"\n(?=(?:Args|Returns|Raises|Source):\n)", doc)
    arguments: dict[str, str] = {}
    extra = []
    for section in sections:
        title, _, content = section.partition("\n")
        if title == "Args:":
            for entry in re.split(r"\n(?=    \S)", content):
                name, _, meaning = entry.strip().partition(": ")
                arguments[name] = plain(meaning)
        else:
            extra.append(f"*{title[:-1]}:* {plain(content)}")
    return "\n\n".join([inline_code(body.strip()), *extra]), arguments


def plain(text: str) -> str:
    """Return a paragraph on one line."""
    return inline_code(" ".join(text.split()))


def inline_code(text: str) -> str:
    """Return text with the code marks of Markdown."""
    return text.replace("``", "`")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    cells = ([cell.replace("|", "\\|") for cell in row] for row in (head, *rows))
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return ["", lines[0], "|" + "---|" * len(head), *lines[1:], ""]


def fields(kind: type[Any]) -> list[tuple[str, str, str, str]]:
    """Return name in TOML spelling, type, default and meaning of each field."""
    meanings = documented(kind)[1]
    rows = []
    for field in dataclasses.fields(kind):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        shown = "" if default is dataclasses.MISSING else _default(default)
        kind_name = field.type if isinstance(field.type, str) else field.type.__name__
        meaning = meanings.get(field.name, "")
        rows.append((f"`{kebab(field.name)}`", f"`{kind_name}`", shown, meaning))
    return rows


def _default(value: Any) -> str:
    if value is None:
        return "absent"
    if dataclasses.is_dataclass(value):
        return "see below"
    if isinstance(value, float):
        return f"`{value:.6g}`"
    text = str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
    return f"`{text.replace('()', '[]')}`"


def options_table(kind: type[Any], called: str = "option") -> list[str]:
    """Return the table of what a dataclass takes."""
    rows = fields(kind)
    return table((called, "type", "default", "meaning"), rows) if rows else ["", "No options."]


def preformatted(text: str) -> str:
    """Return paragraphs as they are, and indented formulas as code."""
    return re.sub(r"(?m)((?:^ {4}.*\n?)+)", r"\n```text\n\1```\n", inline_code(text) + "\n")


def facts_of(prefix: str, value: Any) -> list[tuple[str, str]]:
    """Return (dotted name, value) of a dataclass; a table within it has one row per key."""
    if value is None:
        return []
    rows: list[tuple[str, str]] = []
    for field in dataclasses.fields(value):
        content, name = getattr(value, field.name), f"{prefix}.{field.name}"
        if isinstance(content, dict):
            rows += [(f"{name}.{key}", _scalar(v)) for key, v in content.items()]
        elif content is not None:
            rows.append((name, _scalar(content)))
    return rows


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
