"""What each hook promises: one ``Kind`` per hook, which checks what a plugin returned."""

from __future__ import annotations

import dataclasses
import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from graphopt.errors import GraphOptError, PluginError, RecipeError, TargetError, WorkerError
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    import click

    from graphopt.analysis.coupling import CouplingRule
    from graphopt.calibration.base import Observer, Reader
    from graphopt.cost.base import CostModel
    from graphopt.passes.base import Pass
    from graphopt.passes.prune.importance.base import Importance
    from graphopt.targets.base import Target

T = TypeVar("T")

# Letters, digits and . _ + - in any order, but a colon separates the plugin from the name.
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """One hook and the kind of thing it returns.

    Args:
        plural: the end of the hook's name: ``graphopt_register_<plural>``.
        noun: what a message calls one of them.
        read: checks one returned thing; gives its names (own name first, then aliases) and the
            thing itself. Raises PluginError G404.
        error: raised for an unknown name, with ``code``.
        code: stable code of that error.
    """

    plural: str
    noun: str
    read: Callable[[Any], tuple[tuple[str, ...], T]]
    error: type[GraphOptError] = RecipeError
    code: str = "G103"

    @property
    def hook(self) -> str:
        """Name of the hook."""
        return f"graphopt_register_{self.plural}"

    def read_all(self, returned: object) -> dict[str, tuple[str, T]]:
        """Check a hook's whole answer; return {name or alias: (own name, thing)}.

        Raises:
            PluginError: G404, something in it is not what the hook promises; nothing is kept then.
        """
        if not isinstance(returned, (list, tuple)):
            raise _fault(returned, "is not a list", self.hook)
        things: dict[str, tuple[str, T]] = {}
        for item in returned:
            try:
                names, thing = self.read(item)
            except _Mismatch as mismatch:
                raise _fault(item, str(mismatch), self.hook) from None
            for name in names:
                if not isinstance(name, str) or not _NAME.fullmatch(name):
                    raise _fault(item, f"has no usable name: {name!r}", self.hook)
                if name in things:
                    raise _fault(item, f"repeats the name `{name}`", self.hook)
                things[name] = (names[0], thing)
        return things


class _Mismatch(Exception):  # noqa: N818 - never leaves this module
    """What is wrong with one returned thing, said after "which"."""


def _fault(item: object, fault: str, hook: str) -> PluginError:
    shown = f"`{item.__qualname__}`" if inspect.isclass(item) else f"a {type(item).__name__}"
    return PluginError(f"`{hook}` returned {shown}, which {fault}", code="G404")


def _expect(condition: bool, fault: str) -> None:
    if not condition:
        raise _Mismatch(fault)


def _class(*methods: str, options: bool = False) -> Callable[[Any], tuple[tuple[str, ...], Any]]:
    """Return the check of a named class; with ``options``, of one whose fields are its options."""

    def read(item: Any) -> tuple[tuple[str, ...], Any]:
        _expect(inspect.isclass(item), "is not a class")
        for method in methods:
            _expect(callable(getattr(item, method, None)), f"has no method `{method}`")
        if options:
            parameters = getattr(item, "__dataclass_params__", None)
            _expect(parameters is not None and parameters.frozen, "is not a frozen dataclass")
            fields = {option.name for option in dataclasses.fields(item)}
            _expect("name" not in fields, "has `name` as an option; annotate it as ClassVar[str]")
        return (getattr(item, "name", ""),), item

    return read


def _pass(item: Any) -> tuple[tuple[str, ...], Any]:
    names, _ = _class("run", options=True)(item)
    _expect(isinstance(getattr(item, "effect", None), Effect), "has no `effect` of type Effect")
    return names, item


def _target(item: Any) -> tuple[tuple[str, ...], Any]:
    from graphopt.targets.base import Target

    _expect(isinstance(item, Target), "is not a Target")
    return (item.name, *item.aliases), item


def _coupling_rule(item: Any) -> tuple[tuple[str, ...], Any]:
    from graphopt.analysis.coupling import CouplingRule

    _expect(isinstance(item, CouplingRule), "is not a CouplingRule")
    return (item.name,), item


def _pair(item: Any) -> tuple[tuple[str, ...], Any]:
    good = isinstance(item, tuple) and len(item) == 2 and callable(item[1])
    _expect(good, "is not a pair (name, function)")
    return (item[0],), item[1]


def _command(item: Any) -> tuple[tuple[str, ...], Any]:
    # Told by its methods: click has its home in graphopt.cli.
    good = callable(getattr(item, "invoke", None)) and callable(getattr(item, "make_context", None))
    _expect(good, "is not a click command")
    return (item.name,), item


PASSES: Kind[type[Pass]] = Kind("passes", "pass", _pass, code="G105")
TARGETS: Kind[Target] = Kind("targets", "target", _target, TargetError, "G501")
OBSERVERS: Kind[type[Observer]] = Kind("observers", "observer", _class("start", options=True))
COST_MODELS: Kind[type[CostModel]] = Kind("cost_models", "cost model", _class("estimate"))
READERS: Kind[type[Reader]] = Kind("readers", "reader", _class("accepts", "open"))
METRICS: Kind[Callable[..., float]] = Kind("metrics", "metric", _pair)
EXECUTORS: Kind[Callable[[str], Executor]] = Kind(
    "executors", "executor", _pair, WorkerError, "G601"
)
COMMANDS: Kind[click.Command] = Kind("commands", "command", _command, code="G108")
IMPORTANCE: Kind[type[Importance]] = Kind(
    "importance", "importance criterion", _class("scores", options=True)
)
COUPLING: Kind[CouplingRule] = Kind("coupling", "coupling rule", _coupling_rule)

_ALL: tuple[Kind[Any], ...] = (
    *(PASSES, TARGETS, OBSERVERS, COST_MODELS, READERS),
    *(METRICS, EXECUTORS, COMMANDS, IMPORTANCE, COUPLING),
)
KINDS: dict[str, Kind[Any]] = {kind.plural: kind for kind in _ALL}
"""Every kind by the end of its hook's name."""
