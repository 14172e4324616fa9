"""Every hook is documented with its signature, and reached by name through a registry."""

from __future__ import annotations

import ast
import inspect
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import click
import pytest

from graphopt import hookspecs
from graphopt.analysis.coupling import CouplingRule
from graphopt.hookspecs import hookimpl
from graphopt.passes.base import PassResult
from graphopt.registry import Registry
from graphopt.targets import host_target
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("graphopt_register_"))


@dataclass(frozen=True)
class Step:
    """A pass."""

    name: ClassVar[str] = "step"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: object, context: object) -> PassResult:
        return PassResult(False)


@dataclass(frozen=True)
class Watch:
    """An observer."""

    name: ClassVar[str] = "watch"

    def start(self) -> object:
        return object()


class Guess:
    """A cost model."""

    name = "guess"

    def estimate(self, graph: object, target: object) -> object:
        return object()


class Tape:
    """A reader."""

    name = "tape"

    def accepts(self, source: Path) -> bool:
        return source.suffix == ".tape"

    def open(self, source: Path, inputs: object, preprocessing: object) -> object:
        return object()


@dataclass(frozen=True)
class Weight:
    """An importance criterion."""

    name: ClassVar[str] = "weight"

    def scores(self, evidence: object, kept: object) -> object:
        return object()


def score(outputs: object, labels: object) -> float:
    return 1.0


def couple(node: object, links: object) -> None: ...


def pool(url: str) -> Executor:
    return ThreadPoolExecutor(1)


BOARD = replace(host_target(), name="board", aliases=(), is_host=False)
SAY = click.Command("say")
RULE = CouplingRule("Conv", couple)

CASES: dict[str, tuple[Any, Callable[[Registry], Any], Any]] = {
    "graphopt_register_passes": (Step, lambda r: r.pass_class("step"), Step),
    "graphopt_register_targets": (BOARD, lambda r: r.target("board"), BOARD),
    "graphopt_register_observers": (Watch, lambda r: r.observer_class("watch"), Watch),
    "graphopt_register_cost_models": (Guess, lambda r: r.cost_model_class("guess"), Guess),
    "graphopt_register_readers": (Tape, lambda r: r.reader_for(Path("a.tape")), Tape),
    "graphopt_register_metrics": (("score", score), lambda r: r.metric("score"), score),
    "graphopt_register_executors": (("pool", pool), lambda r: r.executor("pool"), pool),
    "graphopt_register_commands": (SAY, lambda r: r.commands()["say"], SAY),
    "graphopt_register_importance": (
        Weight,
        lambda r: r.importances()["weight"],
        Weight,
    ),
    "graphopt_register_coupling": (
        RULE,
        lambda r: r.coupling_rules()["Conv"],
        RULE,
    ),
}
"""By hook: what an implementation returns, how it is looked up, and what the look-up gives."""


def test_every_hook_has_a_case() -> None:
    assert sorted(CASES) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_what_a_hook_returns_is_found_by_name(hook: str) -> None:
    thing, look_up, found = CASES[hook]
    module = ModuleType("own")
    setattr(module, hook, hookimpl(lambda: [thing]))
    assert look_up(Registry(plugins=(), builtins=[module])) == found


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_exact_signature(hook: str) -> None:
    function = getattr(hookspecs, hook)
    node = ast.parse(inspect.getsource(function)).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert node.returns is not None
    page = (ROOT / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")
    assert (
        f"## {hook}\n\n```text\n{hook}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}\n"
        in page
    )


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_declarative_typed_and_says_since_when_it_exists(hook: str) -> None:
    function = getattr(hookspecs, hook)
    signature = inspect.signature(function)
    assert not signature.parameters
    assert signature.return_annotation.startswith("Sequence[")
    assert "Since " in (function.__doc__ or "")
