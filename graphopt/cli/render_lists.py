"""What passes and plugins print."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from graphopt.cli import layout
from graphopt.cli.render import heading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.passes.base import Pass
    from graphopt.registry import PluginStatus


def sentence(documented: object) -> str:
    """Return the first sentence of a docstring."""
    text = " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())
    return text.rstrip(".")


def pass_list(passes: Sequence[type[Pass]], width: int | None) -> list[str]:
    """Return one line per pass."""
    rows = [("pass", "effect", "what it does")]
    rows += [(p.name, p.effect.value, sentence(p)) for p in passes]
    head, *body = layout.columns(rows, indent="", width=width)
    return [heading(head), *body]


def pass_page(found: type[Pass]) -> list[str]:
    """Return what a pass does, what it promises, and its options."""
    promise = {
        "exact": "the same function up to rounding, checked on probe inputs",
        "approximate": "measured against the limits of the recipe",
        "reduced": "a smaller model, fitted to the original; what follows is compared with it",
    }[found.effect.value]
    lines = [heading(found.name), *layout.columns([("effect", f"{found.effect.value}: {promise}")])]
    lines += ["", *(layout.printable(s) for s in (inspect.getdoc(found) or "").splitlines())]
    options = pass_options(found)
    if not options:
        return [*lines, "", "no options"]
    rows = [("option", "type", "default")]
    rows += [(o["name"], o["type"], "-" if o["default"] is None else o["default"]) for o in options]
    head, *body = layout.columns(rows)
    return [*lines, "", heading(head), *body, "", f"  --set {found.name}.OPTION=VALUE sets one"]


def pass_options(found: type[Pass]) -> list[dict[str, Any]]:
    """Return the options of a pass, in the spelling of the recipe."""
    options = []
    for field in dataclasses.fields(found):  # type: ignore[arg-type]  # the registry checked it
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        options.append(
            {
                "name": field.name.replace("_", "-"),
                "type": field.type if isinstance(field.type, str) else field.type.__name__,
                "default": None if default in (None, dataclasses.MISSING) else str(default),
            }
        )
    return options


def plugin_list(plugins: Sequence[PluginStatus]) -> list[str]:
    """Return one line per plugin, with what it provides or what is wrong with it."""
    rows = [("plugin", "version", "status", "")]
    for plugin in plugins:
        version = f"{plugin.distribution} {plugin.version}".strip()
        told = plugin.error or ", ".join(plugin.provides)
        code = f"[{plugin.code}] " if plugin.code else ""
        rows.append((plugin.name, version, plugin.status, code + told))
    head, *body = layout.columns(rows, indent="", width=None)
    return [heading(head), *body]
