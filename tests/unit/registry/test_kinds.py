"""What each hook accepts, and what it says about the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import click
import pytest

from graphopt.analysis.coupling import CouplingRule
from graphopt.errors import CODES, PluginError
from graphopt.registry import KINDS
from graphopt.targets.base import Target
from graphopt.types import Effect
from tests.unit.registry.boards import make_target


@dataclass(frozen=True)
class Step:
    name: ClassVar[str] = "step"
    effect: ClassVar[Effect] = Effect.EXACT
    strength: float = 1.0

    def run(self, graph: object, context: object) -> None: ...


@dataclass
class NotFrozen:
    name: ClassVar[str] = "not-frozen"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: object, context: object) -> None: ...


@dataclass(frozen=True)
class NameIsAnOption:
    effect: ClassVar[Effect] = Effect.EXACT
    name: str = "option"

    def run(self, graph: object, context: object) -> None: ...


@dataclass(frozen=True)
class NoEffect:
    name: ClassVar[str] = "no-effect"

    def run(self, graph: object, context: object) -> None: ...


@dataclass(frozen=True)
class EffectByName(NoEffect):
    effect: ClassVar[str] = "exact"


@dataclass(frozen=True)
class Unnamed:
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: object, context: object) -> None: ...


@dataclass(frozen=True)
class BadlyNamed(Step):
    name: ClassVar[str] = "plugin:step"


@dataclass(frozen=True)
class Watch:
    name: ClassVar[str] = "watch"

    def start(self) -> None: ...


class Price:
    name = "price"

    def estimate(self, graph: object, target: object) -> None: ...


class Read:
    name = "read"

    def accepts(self, source: object) -> bool:
        return True

    def open(self, source: object, inputs: object, preprocessing: object) -> None: ...


BOARD = make_target("board", "b")
COMMAND = click.Command("hello", callback=print)


def function(*arguments: object) -> float:
    return 0.0


@dataclass(frozen=True)
class Weigh:
    """An importance criterion."""

    name: ClassVar[str] = "weigh"

    def scores(self, evidence: object, kept: object) -> object:
        return object()


RULE = CouplingRule("Conv", function)

GOOD: dict[str, tuple[Any, tuple[str, ...], Any]] = {
    "passes": (Step, ("step",), Step),
    "targets": (BOARD, ("board", "b"), BOARD),
    "observers": (Watch, ("watch",), Watch),
    "cost_models": (Price, ("price",), Price),
    "readers": (Read, ("read",), Read),
    "metrics": (("top-1", function), ("top-1",), function),
    "executors": (("tcp", function), ("tcp",), function),
    "commands": (COMMAND, ("hello",), COMMAND),
    "importance": (Weigh, ("weigh",), Weigh),
    "coupling": (RULE, ("Conv",), RULE),
}


def test_every_hook_has_a_kind() -> None:
    from graphopt import hookspecs

    hooks = {name for name in dir(hookspecs) if name.startswith("graphopt_register_")}
    assert {kind.hook for kind in KINDS.values()} == hooks
    assert set(GOOD) == set(KINDS)
    assert all(kind.code in CODES for kind in KINDS.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("container", [list, tuple])
def test_what_a_hook_promises_is_accepted(kind: str, container: type) -> None:
    item, names, thing = GOOD[kind]
    assert KINDS[kind].read_all(container([item])) == dict.fromkeys(names, (names[0], thing))
    assert KINDS[kind].read_all(container()) == {}


@pytest.mark.parametrize(
    ("kind", "returned", "fault"),
    [
        ("passes", None, "a NoneType, which is not a list"),
        ("passes", Step, "`Step`, which is not a list"),
        ("passes", (each for each in ()), "a generator, which is not a list"),
        ("passes", "step", "a str, which is not a list"),
        ("passes", [Step()], "a Step, which is not a class"),
        ("passes", [function], "a function, which is not a class"),
        ("passes", [Read], "`Read`, which has no method `run`"),
        ("passes", [NotFrozen], "`NotFrozen`, which is not a frozen dataclass"),
        ("passes", [NameIsAnOption], "which has `name` as an option"),
        ("passes", [NoEffect], "`NoEffect`, which has no `effect` of type Effect"),
        ("passes", [EffectByName], "which has no `effect` of type Effect"),
        ("passes", [Unnamed], "`Unnamed`, which has no usable name: ''"),
        ("passes", [BadlyNamed], "which has no usable name: 'plugin:step'"),
        ("passes", [Step, Step], "`Step`, which repeats the name `step`"),
        ("targets", ["arm"], "a str, which is not a Target"),
        ("targets", [Target], "`Target`, which is not a Target"),
        ("targets", [make_target("b", "b")], "a Target, which repeats the name `b`"),
        ("observers", [Price], "`Price`, which has no method `start`"),
        ("cost_models", [Watch], "`Watch`, which has no method `estimate`"),
        ("readers", [Price], "`Price`, which has no method `accepts`"),
        ("metrics", [function], "a function, which is not a pair (name, function)"),
        ("metrics", [("top-1", 1.0)], "a tuple, which is not a pair (name, function)"),
        ("metrics", [(1, function)], "a tuple, which has no usable name: 1"),
        ("executors", [("tcp", function, 1)], "a tuple, which is not a pair (name, function)"),
        ("commands", [print], "which is not a click command"),
        ("importance", [Price], "`Price`, which has no method `scores`"),
        ("importance", [Weigh()], "a Weigh, which is not a class"),
        ("coupling", [("Conv", function)], "a tuple, which is not a CouplingRule"),
        ("coupling", [CouplingRule("", function)], "which has no usable name: ''"),
    ],
)
def test_what_a_hook_does_not_promise_is_refused(kind: str, returned: object, fault: str) -> None:
    with pytest.raises(PluginError) as caught:
        KINDS[kind].read_all(returned)
    assert caught.value.code == "G404"
    assert caught.value.message.startswith(f"`graphopt_register_{kind}` returned ")
    assert fault in caught.value.message
