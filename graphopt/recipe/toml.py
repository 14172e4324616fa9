"""Read recipes from TOML and write them back; writing and reading again gives an equal recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.recipe.conversion import to_table
from graphopt.recipe.drafts import parse_draft, read_draft
from graphopt.recipe.resolved import dotted, pass_names, recipe_of

if TYPE_CHECKING:
    import tomlkit
    from tomlkit.items import Item, Table

    from graphopt.recipe.schema import Recipe

_NO_ORIGINS: Mapping[str, str] = {}


def parse_recipe(text: str, origin: str = "recipe") -> Recipe:
    """Return the recipe that a TOML text spells; what it leaves out has its default.

    Args:
        text: the document.
        origin: what errors call it.

    Raises:
        RecipeError: G101 to G104, with the line.
    """
    return recipe_of(parse_draft(text, origin))


def read_recipe(path: Path | str) -> Recipe:
    """Return the recipe in a file; a relative ``calibration.data`` starts at the file's folder.

    Raises:
        RecipeError: G109, the file cannot be read; G101 to G104, with the line.
    """
    return recipe_of(read_draft(Path(path)))


def write_recipe(recipe: Recipe, origins: Mapping[str, str] = _NO_ORIGINS) -> str:
    """Return the recipe as TOML with every value spelt out, defaults too.

    Args:
        recipe: any recipe.
        origins: origin by dotted path, as ``ResolvedRecipe.origins`` gives it; each is written as a
            comment after its value.
    """
    import tomlkit

    table = to_table(recipe)
    passes = table.pop("passes")
    document = tomlkit.document()
    _fill(document, table, "", origins)
    if not passes:
        document.add("passes", tomlkit.array())
    else:
        entries = tomlkit.aot()
        for name, entry in zip(pass_names(recipe), passes, strict=True):
            entries.append(_fill(tomlkit.table(), entry, f"{dotted(('passes', name))}.", origins))
        document.add("passes", entries)
    return tomlkit.dumps(document)


def _fill(
    container: Table | tomlkit.TOMLDocument,
    values: Mapping[str, Any],
    prefix: str,
    origins: Mapping[str, str],
) -> Table | tomlkit.TOMLDocument:
    """Write scalars first and tables after them, since a table ends only where the next begins."""
    import tomlkit

    for key, value in values.items():
        if _is_section(prefix, value):
            continue
        item = _item(value)
        if (origin := origins.get(prefix + key)) is not None:
            item.comment(origin)
        container.add(key, item)
    for key, value in values.items():
        if _is_section(prefix, value) and _says_anything(f"{prefix}{key}.", value):
            container.add(key, _fill(tomlkit.table(), value, f"{prefix}{key}.", origins))
    return container


def _is_section(prefix: str, value: Any) -> bool:
    """Tables in the options of a pass or an observer are values, written on one line."""
    return isinstance(value, Mapping) and not prefix.startswith(
        ("passes.", "calibration.observer-options.")
    )


def _says_anything(prefix: str, table: Mapping[str, Any]) -> bool:
    """Whether a table holds more than empty tables; those that are values count."""
    return any(
        not _is_section(prefix, value) or _says_anything(f"{prefix}{key}.", value)
        for key, value in table.items()
    )


def _item(value: Any) -> Item:
    import tomlkit

    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        for key, member in value.items():
            inline.append(key, _item(member))
        return inline
    if isinstance(value, list):
        array = tomlkit.array()
        for member in value:
            array.append(_item(member))
        return array
    scalar: Item = tomlkit.item(value)
    return scalar
