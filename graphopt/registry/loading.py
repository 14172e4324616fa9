"""Loading: the only owner of a pluggy manager, and the one place where code of plugins runs."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
from typing import TYPE_CHECKING, Any

import pluggy

from graphopt import hookspecs
from graphopt.errors import PluginError
from graphopt.registry.kinds import KINDS, Kind
from graphopt.registry.plugin import OWN, Plugin

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Implementations = list[tuple[pluggy.HookCaller, pluggy.HookImpl]]


class Loader:
    """Imports, registers and asks plugins, each in isolation from the others.

    Args:
        builtins: modules, or their names, that implement graphopt's own hooks.
        announce: told the plugin, its version and distribution before its code first runs.
    """

    def __init__(
        self, builtins: Sequence[object | str], announce: Callable[[str], None] | None
    ) -> None:
        self.own = Plugin(OWN, OWN)
        self.log: logging.Logger | None = None
        self._builtins = tuple(builtins)
        self._announce = announce
        self._found: dict[tuple[str, str], Any] = {}
        self._manager = pluggy.PluginManager(OWN)
        self._manager.add_hookspecs(hookspecs)

    def collect(self, kind: Kind[Any], plugins: Iterable[Plugin]) -> None:
        """Ask each plugin for one kind of thing, once; one that raises does not stop the rest."""
        for plugin in plugins:
            self.load(plugin)
            if plugin.loaded and kind.plural not in plugin.things:
                plugin.things[kind.plural] = self._ask(plugin, kind)

    def find(self, kind: Kind[Any], name: str) -> Any:
        """Return one of graphopt's own things without collecting the others; None if it cannot."""
        if (kind.plural, name) not in self._found:
            self._found[kind.plural, name] = self._search(kind, name)
        return self._found[kind.plural, name]

    def _search(self, kind: Kind[Any], name: str) -> Any:
        self.load(self.own)
        for builtin in self._builtins:
            module = importlib.import_module(builtin) if isinstance(builtin, str) else builtin
            found = getattr(module, "FINDERS", {}).get(kind.plural, lambda _: None)(name)
            if found is not None:
                return found
        return None

    def load(self, plugin: Plugin) -> None:
        """Import and register one plugin; it gets one try."""
        if plugin.tried or not plugin.enabled:
            return
        if plugin.entry is None:
            self._load_builtins()
        else:
            plugin.tried = True
            if self._announce is not None:
                self._announce(str(plugin))
            self._trace("import %s from %s", plugin, plugin.entry.value)
            with self.isolated(plugin):
                self._register(plugin.entry.load(), plugin.name)
                plugin.loaded = True

    @contextlib.contextmanager
    def isolated(self, plugin: Plugin, doing: str = "") -> Iterator[None]:
        """Turn what a plugin raises into data; a fault of graphopt's own stays an exception."""
        try:
            yield
        except (Exception, SystemExit) as error:
            if plugin is self.own:
                raise
            plugin.errors.append(_as_plugin_error(error, doing))
            self._trace("%s failed: %s", plugin, plugin.errors[-1].message)

    def _load_builtins(self) -> None:
        for index, builtin in enumerate(self._builtins):
            module = importlib.import_module(builtin) if isinstance(builtin, str) else builtin
            self._register(module, f"{OWN}.{index}")
        self.own.tried = self.own.loaded = True

    def _ask(self, plugin: Plugin, kind: Kind[Any]) -> dict[str, tuple[str, Any]]:
        things: dict[str, tuple[str, Any]] = {}
        for implementation in getattr(self._manager.hook, kind.hook).get_hookimpls():
            if _owner(implementation) != plugin.name:
                continue
            with self.isolated(plugin, f"`{kind.hook}` raised "):
                found = kind.read_all(implementation.function())
                if twice := things.keys() & found.keys():
                    message = f"{kind.noun} `{min(twice)}` is registered twice"
                    raise PluginError(message, code="G402")
                things.update(found)
                self._trace("%s: %s gave %d", plugin, kind.hook, len(found))
        return things

    def _register(self, module: object, name: str) -> None:
        """Register with pluggy and check each implementation; leave nothing behind on failure."""
        if self._manager.is_registered(module):
            raise PluginError("its module is registered by another plugin already", code="G402")
        try:
            self._manager.register(module, name=name)
            self._check(name)
        except Exception:
            # pluggy 1.6 keeps a plugin whose registration failed.
            self._manager.unregister(name=name)
            raise

    def _check(self, name: str) -> None:
        implementations = self._implementations(name)
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise _misspelt(implementations) from error
        for hook, implementation in implementations:
            _check_implementation(hook.name, implementation)
        if not implementations and _owner_of(name) != OWN:
            raise PluginError("it implements no hook; is `@hookimpl` missing?", code="G403")

    def _implementations(self, name: str) -> Implementations:
        hooks: list[pluggy.HookCaller] = list(vars(self._manager.hook).values())
        pairs = [(hook, found) for hook in hooks for found in hook.get_hookimpls()]
        return [pair for pair in pairs if pair[1].plugin_name == name]

    def _trace(self, message: str, *values: object) -> None:
        if self.log is not None:
            self.log.debug(message, *values)


def _owner(implementation: pluggy.HookImpl) -> str:
    return _owner_of(implementation.plugin_name)


def _owner_of(name: str) -> str:
    # Built-ins are registered as graphopt.0, graphopt.1, ...; nobody else may use such a name.
    return OWN if name.partition(".")[0] == OWN else name


def _misspelt(implementations: Implementations) -> PluginError:
    unknown = min(hook.name for hook, _ in implementations if not hook.has_spec())
    hooks = [kind.hook for kind in KINDS.values()]
    close = difflib.get_close_matches(unknown, hooks, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return PluginError(f"`{unknown}` is not a hook of graphopt{hint}", code="G403")


def _check_implementation(hook: str, implementation: pluggy.HookImpl) -> None:
    """Refuse what pluggy lets through: parameters with defaults, and wrappers around others.

    pluggy up to 1.6 never passes an argument whose parameter has a default, 1.7 does: such a plugin
    would change its meaning without a word.
    """
    parameters = inspect.signature(implementation.function).parameters.values()
    for parameter in parameters:
        if parameter.default is not parameter.empty:
            message = f"`{hook}` has a default for its parameter `{parameter.name}`"
            raise PluginError(message, code="G403")
    if implementation.wrapper or implementation.hookwrapper:
        raise PluginError(f"`{hook}` is a wrapper; graphopt calls plain hooks only", code="G403")


def _as_plugin_error(error: BaseException, doing: str) -> PluginError:
    if isinstance(error, PluginError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, pluggy.PluginValidationError):
        return PluginError(text, code="G403")
    kind = "" if isinstance(error, ImportError) and not doing else f"{type(error).__name__}: "
    return PluginError(f"{doing}{kind}{text}", code="G401")
