"""What targets, passes and plugins print."""

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
    from graphopt.targets.base import Target


def target_list(targets: Sequence[Target], width: int | None) -> list[str]:
    """Return one line per target."""
    rows = [("target", "also called", "what it is")]
    rows += [(t.name, ", ".join(t.aliases), t.summary) for t in targets]
    head, *body = layout.columns(rows, indent="", width=width)
    return [heading(head), *body]


def target_page(target: Target) -> list[str]:
    """Return every fact of a target, and where the figures are from."""
    lines = [heading(target.name), *layout.wrap(target.summary)]
    plain = {
        "also called": ", ".join(target.aliases),
        "runtime": target.runtime,
        "provider": target.provider or "onnxruntime does not run there",
        "instructions": ", ".join(target.isa),
    }
    lines += layout.columns([(k, v) for k, v in plain.items() if v])
    for part in ("quantization", "compute", "memory", "energy"):
        value = getattr(target, part)
        if value is not None:
            lines += ["", part, *layout.columns(_facts(value))]
    lines += ["", f"latency estimates are within +-{100 * target.uncertainty:.0f} %"]
    if target.sources:
        lines += ["", "sources", *layout.columns(sorted(target.sources.items()))]
    return lines


def _facts(value: Any) -> list[tuple[str, str]]:
    """Return the fields of a dataclass; a table within it has one row per key."""
    rows: list[tuple[str, str]] = []
    for field in dataclasses.fields(value):
        name, content = field.name.replace("_", " "), getattr(value, field.name)
        if isinstance(content, dict):
            rows += [(f"{name}, {key}", _plain(v)) for key, v in content.items()]
        elif content is not None:
            is_size = field.name.endswith("_bytes")
            text = layout.size(content) if is_size else _plain(content)
            rows.append((name.removesuffix(" bytes"), text))
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


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
