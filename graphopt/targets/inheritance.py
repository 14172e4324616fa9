"""Target files that build on a shipped target: ``base`` names it, the file says what differs."""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from graphopt.errors import TargetError

DATA = Path(__file__).with_name("data")
"""The folder of the shipped target files."""

_OWN = ("name", "summary", "aliases", "base")
"""What is never inherited."""


def with_base(table: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return ``table`` with everything that it leaves to its base, and without the key ``base``.

    Tables are merged key by key. A figure that is not inherited does not inherit the source of the
    base's figure either; one that is inherited says from where.

    Raises:
        TargetError: G502, the base is no shipped target.
    """
    name = table.get("base")
    if name is None:
        return table
    parent = _shipped(name, file) if isinstance(name, str) else _unknown(str(name), file)
    kept = {key: value for key, value in parent.items() if key not in _OWN}
    own = {key: value for key, value in table.items() if key not in {"base", "sources"}}
    stated = table.get("sources", {})
    merged = _merged(kept, own)
    if isinstance(stated, dict):
        stated = _sources(kept.get("sources", {}), own, stated, name, file)
    return {**merged, "sources": stated}


def _shipped(name: str, file: Path) -> dict[str, Any]:
    return _read(name) if name in _names() else _unknown(name, file)


def _unknown(name: str, file: Path) -> dict[str, Any]:
    close = difflib.get_close_matches(name, _names(), n=1)
    raise TargetError(
        f"the base `{name}` is no shipped target",
        code="G502",
        where=f"{file}: base",
        hint=f"did you mean `{close[0]}`?" if close else "`graphopt targets` lists them",
    )


@cache
def _names() -> frozenset[str]:
    return frozenset(path.stem for path in DATA.glob("*.toml"))


@cache
def _read(name: str) -> dict[str, Any]:
    path = DATA / f"{name}.toml"
    return with_base(tomllib.loads(path.read_text(encoding="utf-8")), path)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = _merged(found[key], value) if both else value
    return found


def _sources(
    inherited: dict[str, str], own: dict[str, Any], stated: dict[str, str], name: str, file: Path
) -> dict[str, str]:
    """Return where every figure is from: the base's words for what is the base's."""
    changed = _leaves(own)
    found = {
        key: text if _names_target(text) else f"{name}: {text}"
        for key, text in inherited.items()
        if not any(_covers(leaf, key) for leaf in changed)
    }
    for leaf in changed:
        if leaf.partition(".")[2] and not any(_covers(key, leaf) for key in stated):
            found[leaf] = f"{file.name}, which names no source"
    return {**found, **stated}


def _names_target(text: str) -> bool:
    head, colon, _ = text.partition(": ")
    return bool(colon) and head in _names()


def _leaves(table: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted names of everything that a file sets itself."""
    found: list[str] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        found += _leaves(value, f"{name}.") if isinstance(value, dict) else [name]
    return found


def _covers(key: str, field: str) -> bool:
    return field == key or field.startswith(f"{key}.")
