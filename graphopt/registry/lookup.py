"""The registry object: typed look-ups by kind and name over built-ins and plugins."""

from __future__ import annotations

import difflib
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from graphopt.errors import PluginError, RecipeError
from graphopt.passes.elsewhere import package_hint
from graphopt.registry import kinds
from graphopt.registry.loading import Loader
from graphopt.registry.plugin import (
    SELECTION,
    Plugin,
    PluginStatus,
    installed,
    selected,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    import click

    from graphopt.analysis.coupling import CouplingRule
    from graphopt.calibration.base import Observer, Reader
    from graphopt.cost.base import CostModel
    from graphopt.errors import GraphOptError
    from graphopt.passes.base import Pass
    from graphopt.passes.prune.importance.base import Importance
    from graphopt.registry.kinds import Kind
    from graphopt.targets.base import Target

T = TypeVar("T")

BUILTIN_PLUGINS = (
    "graphopt.analysis.builtin",
    "graphopt.calibration.builtin",
    "graphopt.cost.builtin",
    "graphopt.passes.builtin",
    "graphopt.passes.prune.builtin",
    "graphopt.targets.builtin",
    "graphopt.workers.builtin",
)
"""Modules of graphopt itself that implement the hooks that everybody else implements."""


class Registry:
    """Everything that is built in or that plugins provide, by kind and name; the caller owns it.

    Built-ins are imported at the first look-up. Plugins are imported when a name is not built in,
    or when all of a kind is asked for. A plugin that fails is skipped and listed by ``plugins``:
    failing to import or to register takes all of it away, a failing hook what that hook would give.
    Of two providers of a name the built-in wins, then the plugin whose own name sorts first;
    ``plugin:name`` reaches either (``graphopt:name`` for a built-in).

    Args:
        plugins: names of the plugins to use, ``()`` for none; None uses those that the environment
            variable GRAPHOPT_PLUGINS lists (comma-separated, empty for none), or else all.
        builtins: modules, or their names, that implement graphopt's own hooks.
        announce: told "plugin `x` 1.0 (distribution)" before code of that plugin first runs.
    """

    def __init__(
        self,
        *,
        plugins: Sequence[str] | None = None,
        builtins: Sequence[object | str] = BUILTIN_PLUGINS,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self._loader = Loader(builtins, announce)
        self._own = self._loader.own
        self._plugins = installed(selected(plugins))

    @property
    def plugin_names(self) -> tuple[str, ...]:
        """Names of the plugins that may be used; what ``plugins`` of another registry takes."""
        return tuple(plugin.name for plugin in self._plugins if plugin.enabled)

    # Look-ups. Each raises PluginError when the name is qualified by a plugin that failed, and
    # RecipeError G107 when that plugin is not there.

    def passes(self) -> dict[str, type[Pass]]:
        """Return every pass by name."""
        return self._all(kinds.PASSES)

    def pass_class(self, name: str) -> type[Pass]:
        """Return one pass; raises RecipeError G105."""
        return self._find(kinds.PASSES, name)[1]

    def targets(self) -> dict[str, Target]:
        """Return every target by its own name; aliases are not listed."""
        return self._all(kinds.TARGETS)

    def target(self, name: str) -> Target:
        """Return the target of that name or alias; raises TargetError G501."""
        return self._find(kinds.TARGETS, name)[1]

    def observers(self) -> dict[str, type[Observer]]:
        """Return every observer by name."""
        return self._all(kinds.OBSERVERS)

    def observer_class(self, name: str) -> type[Observer]:
        """Return one observer; raises RecipeError G103."""
        return self._find(kinds.OBSERVERS, name)[1]

    def cost_models(self) -> dict[str, type[CostModel]]:
        """Return every cost model by name."""
        return self._all(kinds.COST_MODELS)

    def cost_model_class(self, name: str) -> type[CostModel]:
        """Return one cost model; raises RecipeError G103."""
        return self._find(kinds.COST_MODELS, name)[1]

    def metrics(self) -> dict[str, Callable[..., float]]:
        """Return every metric by name."""
        return self._all(kinds.METRICS)

    def metric(self, name: str) -> Callable[..., float]:
        """Return one metric; raises RecipeError G103."""
        return self._find(kinds.METRICS, name)[1]

    def importances(self) -> dict[str, type[Importance]]:
        """Return every importance criterion by name."""
        return self._all(kinds.IMPORTANCE)

    def coupling_rules(self) -> dict[str, CouplingRule]:
        """Return every coupling rule by operator, after its domain where it has one."""
        return self._all(kinds.COUPLING)

    def executors(self) -> dict[str, Callable[[str], Executor]]:
        """Return what makes an executor from a URL, by URL scheme."""
        return self._all(kinds.EXECUTORS)

    def executor(self, scheme: str) -> Callable[[str], Executor]:
        """Return what makes an executor from a URL of that scheme; raises WorkerError G601."""
        return self._find(kinds.EXECUTORS, scheme)[1]

    def commands(self) -> dict[str, click.Command]:
        """Return every command that is added to ``graphopt``, by name."""
        return self._all(kinds.COMMANDS)

    def readers(self) -> dict[str, type[Reader]]:
        """Return every reader by name."""
        return self._all(kinds.READERS)

    def reader_for(self, source: Path) -> type[Reader] | None:
        """Return the first reader that accepts the path; plugins are asked after the built-ins."""
        for plugin in self._everyone:
            self._loader.collect(kinds.READERS, [plugin])
            for _, (_, reader) in sorted(plugin.things.get("readers", {}).items()):
                with self._loader.isolated(plugin, f"reader `{reader.name}` raised "):
                    if reader().accepts(source):
                        return reader  # type: ignore[no-any-return]  # checked by the kind
        return None

    def provider_of(self, kind: str, name: str) -> str:
        """Return the plugin that provides a thing, "graphopt" for built-ins.

        Args:
            kind: key of ``KINDS``, such as "passes"; raises as the look-up of that kind does.
            name: as in the look-up.
        """
        return self._find(kinds.KINDS[kind], name)[0].name

    def plugins(self, *, load: bool = False) -> list[PluginStatus]:
        """List installed plugins by name, and what became of those that were needed so far.

        Args:
            load: import each enabled plugin and ask it for everything first.
        """
        for kind in kinds.KINDS.values() if load else ():
            self._loader.collect(kind, self._everyone)
        return [self._status(plugin) for plugin in self._plugins]

    def enable_tracing(self, log: logging.Logger | None = None) -> None:
        """Log each import of a plugin and each hook call at level DEBUG, to "graphopt.plugins"."""
        self._loader.log = log or logging.getLogger("graphopt.plugins")

    @property
    def _everyone(self) -> list[Plugin]:
        """All plugins in the order in which they win a name."""
        return [self._own, *self._plugins]

    def _owners(self, kind: Kind[T]) -> dict[str, tuple[Plugin, str, T]]:
        """Return who has each name and alias that was found so far: (plugin, own name, thing)."""
        owners: dict[str, tuple[Plugin, str, T]] = {}
        for plugin in self._everyone:
            for name, (own_name, thing) in plugin.things.get(kind.plural, {}).items():
                owners.setdefault(name, (plugin, own_name, thing))
        return owners

    def _all(self, kind: Kind[T]) -> dict[str, T]:
        self._loader.collect(kind, self._everyone)
        owners = sorted(self._owners(kind).items())
        return {name: thing for name, (_, own_name, thing) in owners if name == own_name}

    def _find(self, kind: Kind[T], name: str) -> tuple[Plugin, T]:
        provider, _, short = name.rpartition(":")
        if provider:
            return self._find_in(self._provider(kind, provider, name), kind, short)
        if kind.plural not in self._own.things:
            # graphopt's own comes before all plugins', so nobody else need be asked.
            found = self._loader.find(kind, name)
            if found is not None:
                return self._own, found
        self._loader.collect(kind, [self._own])
        if name not in self._own.things[kind.plural]:
            # All of them, even when one that is loaded has the name: which plugin has the name
            # must not depend on what was asked for before.
            self._loader.collect(kind, self._plugins)
        owners = self._owners(kind)
        if name not in owners:
            raise self._unknown(kind, name, owners)
        return owners[name][0], owners[name][2]

    def _provider(self, kind: Kind[Any], provider: str, name: str) -> Plugin:
        plugins = {plugin.name: plugin for plugin in reversed(self._everyone)}
        plugin = plugins.get(provider)
        if plugin is not None and plugin.enabled:
            return plugin
        state = "not installed" if plugin is None else "disabled"
        hint = _suggest(provider, plugins) if plugin is None else _enable(provider)
        message = f"{kind.noun} `{name}` needs the plugin `{provider}`, which is {state}"
        raise RecipeError(message, code="G107", hint=hint)

    def _find_in(self, plugin: Plugin, kind: Kind[T], name: str) -> tuple[Plugin, T]:
        self._loader.collect(kind, [plugin])
        things = plugin.things.get(kind.plural, {})
        if name in things:
            return plugin, things[name][1]
        if plugin.errors:
            cause = plugin.errors[0]
            message = f"{kind.noun} `{name}` needs {plugin}, which was skipped: {cause.message}"
            raise PluginError(message, code=cause.code, hint="`graphopt plugins` lists them all")
        raise self._unknown(kind, f"{plugin.name}:{name}", things, short=name)

    def _unknown(
        self, kind: Kind[Any], name: str, known: Iterable[str], short: str | None = None
    ) -> GraphOptError:
        hint = package_hint(name) or _suggest(short or name, known)
        if short is None and (skipped := [p for p in self._plugins if p.errors or not p.loaded]):
            names = ", ".join(sorted({f"`{plugin.name}`" for plugin in skipped}))
            hint = f"{hint}; skipped plugins may have it, see `graphopt plugins`: {names}"
        return kind.error(f"unknown {kind.noun} `{name}`", code=kind.code, hint=hint)

    def _status(self, plugin: Plugin) -> PluginStatus:
        provides: list[str] = []
        errors = list(plugin.errors) if plugin.enabled else []
        for kind in kinds.KINDS.values():
            owners = self._owners(kind)
            for name, (own_name, _) in plugin.things.get(kind.plural, {}).items():
                owner = owners[name][0]
                if owner is not plugin:
                    errors.append(_conflict(kind, name, owner, plugin))
                if name == own_name:
                    shown = name if owner is plugin else f"{plugin.name}:{name}"
                    provides.append(f"{kind.noun} {shown}")
        return PluginStatus(
            name=plugin.name,
            distribution=plugin.distribution,
            version=plugin.version,
            status=plugin.status(errors),
            provides=tuple(sorted(provides)),
            error="; ".join(error.message for error in errors) or None,
            code=errors[0].code if errors else None,
        )


def _conflict(kind: Kind[Any], name: str, owner: Plugin, plugin: Plugin) -> PluginError:
    message = f"{kind.noun} `{name}` of {plugin.distribution} is also provided by {owner}"
    choice = f"`{plugin.name}:{name}` chooses this one"
    return PluginError(f"{message}, which is used; {choice}", code="G402")


def _suggest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    if close := difflib.get_close_matches(name, names, n=3):
        return f"did you mean {' or '.join(f'`{match}`' for match in close)}?"
    return f"choose one of {', '.join(f'`{each}`' for each in names)}" if names else "there is none"


def _enable(plugin: str) -> str:
    return f"leave out --no-plugins, or add `{plugin}` to {SELECTION}"
