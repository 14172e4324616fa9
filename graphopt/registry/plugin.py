"""One plugin as the registry knows it, and the list of those that are installed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal

from graphopt.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Sequence

OWN = "graphopt"
"""Entry-point group, and the provider's name of everything that is built in."""

SELECTION = "GRAPHOPT_PLUGINS"
"""Environment variable: comma-separated names of the plugins to use; empty for none."""

Status = Literal["loaded", "broken", "conflicting", "invalid", "disabled", "not loaded"]
STATUS_BY_CODE: dict[str, Status] = {"G402": "conflicting", "G403": "invalid", "G404": "invalid"}


@dataclass(frozen=True)
class PluginStatus:
    """What became of one installed plugin.

    Args:
        name: entry-point name; ``name:thing`` chooses this plugin where two provide a thing.
        distribution: installed package it comes from, as ``pip`` knows it.
        version: of the distribution.
        status: broken: raised (G401). conflicting: one of its names is taken (G402). invalid: its
            hooks or what they return do not fit (G403, G404). disabled: left out by the user.
        provides: "kind name" each, of the kinds that were asked for so far.
        error: what is wrong, in one line; None when nothing is.
        code: of the first error.
    """

    name: str
    distribution: str
    version: str
    status: Status
    provides: tuple[str, ...] = ()
    error: str | None = None
    code: str | None = None


@dataclass
class Plugin:
    """The registry's own record of one plugin; the built-ins together are one as well.

    Args:
        things: per kind that was asked for: name or alias -> (own name, thing).
    """

    name: str
    distribution: str = ""
    version: str = ""
    entry: EntryPoint | None = None
    enabled: bool = True
    tried: bool = False
    loaded: bool = False
    errors: list[PluginError] = field(default_factory=list)
    things: dict[str, dict[str, tuple[str, Any]]] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.name == OWN:
            return "graphopt (built in)"
        version = f" {self.version}" if self.version else ""
        return f"plugin `{self.name}`{version} ({self.distribution or 'not installed'})"

    def refuse(self, message: str, code: str) -> None:
        """Give the plugin up, for a reason."""
        self.tried = True
        self.errors.append(PluginError(message, code=code))

    def status(self, errors: Sequence[PluginError]) -> Status:
        """Return its status in one word, given everything that is wrong with it."""
        if not self.enabled:
            return "disabled"
        if errors:
            return STATUS_BY_CODE.get(errors[0].code, "broken")
        return "loaded" if self.loaded else "not loaded"


def selected(plugins: Sequence[str] | None) -> frozenset[str] | None:
    """Return the names that the user chose, in code or by ``GRAPHOPT_PLUGINS``; None for all."""
    if plugins is None and (chosen := os.environ.get(SELECTION)) is not None:
        plugins = chosen.split(",")
    if plugins is None:
        return None
    return frozenset(name.strip() for name in plugins if name.strip())


def installed(selection: frozenset[str] | None) -> list[Plugin]:
    """List the plugins that are installed, sorted by name, without importing any of them.

    Those whose name is taken, and those that were selected but are not there, come with an error.
    """
    found: dict[str, Plugin] = {}
    plugins = [_plugin(entry, selection) for entry in entry_points(group=OWN)]
    plugins.sort(key=lambda plugin: (plugin.name, plugin.distribution))
    for plugin in plugins:
        if plugin.name.partition(".")[0] == OWN:
            plugin.refuse(f"the name `{plugin.name}` belongs to graphopt itself", "G402")
        elif plugin.name in found:
            message = (
                f"{found[plugin.name]} has the name that {plugin.distribution} wants, and wins"
            )
            plugin.refuse(message, "G402")
        found.setdefault(plugin.name, plugin)
    for name in sorted((selection or frozenset()) - found.keys()):
        missing = Plugin(name)
        missing.refuse("it is not installed", "G401")
        plugins.append(missing)
    return plugins


def _plugin(entry: EntryPoint, selection: frozenset[str] | None) -> Plugin:
    distribution, version = (entry.dist.name, entry.dist.version) if entry.dist else ("", "")
    enabled = selection is None or entry.name in selection
    return Plugin(entry.name, distribution, version, entry, enabled)
