"""Look-ups over built-ins, with no plugin in sight."""

from __future__ import annotations

import string
import sys
from dataclasses import make_dataclass
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import GraphOptError, PluginError, RecipeError, TargetError
from graphopt.hookspecs import hookimpl
from graphopt.registry import BUILTIN_PLUGINS, Registry
from graphopt.types import Effect
from tests.unit.registry.boards import make_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.targets.base import Target


def make_pass(name: str) -> type:
    namespace = {"name": name, "effect": Effect.EXACT, "run": lambda *_: None}
    return make_dataclass("Step", (), namespace=namespace, frozen=True)


def module(name: str = "own", **hooks: Any) -> ModuleType:
    """Return a module that implements hooks: ``passes`` gives ``graphopt_register_passes``."""
    made = ModuleType(name)
    for kind, things in hooks.items():
        found = things if callable(things) else partial(list, things)
        setattr(made, f"graphopt_register_{kind}", hookimpl(_function(found)))
    return made


def _function(call: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: call()


def registry(*builtins: object, **hooks: Any) -> Registry:
    return Registry(plugins=(), builtins=builtins or [module(**hooks)])


class Reads:
    name = "reads"
    suffix = ".npz"

    def accepts(self, source: Path) -> bool:
        return source.suffix == self.suffix

    def open(self, source: Path, inputs: object, preprocessing: object | None) -> None: ...


def test_every_kind_is_listed_and_found_by_name() -> None:
    def metric(outputs: object, labels: object) -> float:
        return 1.0

    step, board, command = make_pass("a"), make_target("board", "b"), click.Command("hello")
    observer = make_dataclass("Watch", (), namespace={"name": "w", "start": metric}, frozen=True)
    cost = type("Price", (), {"name": "price", "estimate": metric})
    own = registry(
        passes=[step],
        targets=[board],
        observers=[observer],
        cost_models=[cost],
        readers=[Reads],
        metrics=[("top-1", metric)],
        executors=[("tcp", metric)],
        commands=[command],
    )
    assert (own.passes(), own.pass_class("a")) == ({"a": step}, step)
    assert (own.targets(), own.target("board"), own.target("b")) == ({"board": board}, board, board)
    assert (own.observers(), own.observer_class("w")) == ({"w": observer}, observer)
    assert (own.cost_models(), own.cost_model_class("price")) == ({"price": cost}, cost)
    assert (own.metrics(), own.metric("top-1")) == ({"top-1": metric}, metric)
    assert (own.executors(), own.executor("tcp")) == ({"tcp": metric}, metric)
    assert own.commands() == {"hello": command}
    assert own.readers() == {"reads": Reads}
    assert own.provider_of("targets", "b") == "graphopt"
    assert own.pass_class("graphopt:a") is step


@pytest.mark.parametrize(
    ("look_up", "error", "code"),
    [
        (lambda own: own.pass_class("fold-constant"), RecipeError, "G105"),
        (lambda own: own.target("fold-constant"), TargetError, "G501"),
        (lambda own: own.metric("fold-constant"), RecipeError, "G103"),
    ],
)
def test_an_unknown_name_has_a_suggestion(
    look_up: Any, error: type[GraphOptError], code: str
) -> None:
    own = registry(
        passes=[make_pass("fold-constants")],
        targets=[make_target("fold", "fold-constants")],
        metrics=[("fold-constants", make_pass)],
    )
    with pytest.raises(error, match="`fold-constant`") as caught:
        look_up(own)
    assert caught.value.code == code
    assert str(caught.value.hint).startswith("did you mean `fold-constants`?")


def test_the_hint_lists_what_there_is_when_nothing_is_close() -> None:
    own = registry(passes=[make_pass("b"), make_pass("a")])
    for name in ("xyzzy", "graphopt:xyzzy"):
        with pytest.raises(RecipeError, match=f"unknown pass `{name}`") as caught:
            own.pass_class(name)
        assert str(caught.value.hint).startswith("choose one of `a`, `b`")
    with pytest.raises(TargetError) as nothing:
        own.target("arm")
    assert str(nothing.value.hint).startswith("there is none")


def test_a_plugin_that_is_not_installed_is_named() -> None:
    with pytest.raises(RecipeError, match="needs the plugin `fancy`, which is not inst") as caught:
        registry().pass_class("fancy:step")
    assert caught.value.code == "G107"
    (status,) = [p for p in Registry(plugins=["fancy"], builtins=()).plugins() if p.error]
    assert (status.name, status.status, status.error) == ("fancy", "broken", "it is not installed")


def test_the_first_registered_target_keeps_an_alias_that_another_has_as_name() -> None:
    first, second = make_target("first", "arm"), make_target("second", "arm")
    with pytest.raises(PluginError, match="`arm`") as caught:
        registry(module("one", targets=[first]), module("two", targets=[second])).targets()
    assert caught.value.code == "G402"


def test_a_fault_of_graphopt_itself_is_not_hidden() -> None:
    def broken() -> list[type]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        registry(passes=broken).passes()
    own = registry(pases=[])
    for _ in range(2):
        with pytest.raises(PluginError, match="`graphopt_register_pases` is not a hook") as caught:
            own.passes()
        assert caught.value.code == "G403"
    with pytest.raises(ModuleNotFoundError):
        Registry(plugins=(), builtins=["graphopt.nothing_here"]).passes()


@pytest.mark.parametrize("wrapping", ["wrapper", "hookwrapper"])
def test_a_wrapper_is_refused(wrapping: str) -> None:
    def wrap() -> Any:
        return (yield)

    made = ModuleType("own")
    hook = hookimpl(**{wrapping: True})(wrap)  # type: ignore[call-overload]
    made.graphopt_register_passes = hook  # type: ignore[attr-defined]
    with pytest.raises(PluginError, match="is a wrapper") as caught:
        registry(made).passes()
    assert caught.value.code == "G403"


def test_hooks_are_called_once_and_only_for_the_kind_that_is_asked() -> None:
    calls: list[str] = []

    def passes() -> list[type]:
        calls.append("passes")
        return [make_pass("a")]

    def targets() -> list[Target]:
        calls.append("targets")
        return []

    own = registry(passes=passes, targets=targets)
    assert calls == []
    own.pass_class("a")
    own.passes()
    assert calls == ["passes"]
    own.targets()
    assert calls == ["passes", "targets"]


def test_readers_are_asked_in_the_order_of_their_names() -> None:
    other = type("Other", (Reads,), {"name": "aaa"})
    own = registry(readers=[Reads, other])
    assert own.reader_for(Path("x.npz")) is other
    assert own.reader_for(Path("x.txt")) is None


def fake_entries(monkeypatch: pytest.MonkeyPatch, **modules: ModuleType) -> None:
    """Let the environment have one plugin per module; tests/plugins does it with real packages."""
    for name, made in modules.items():
        monkeypatch.setitem(sys.modules, f"fake_{name}", made)
    entries = [EntryPoint(name, f"fake_{name}", "graphopt") for name in modules]
    monkeypatch.setattr("graphopt.registry.plugin.entry_points", lambda group: entries)


def test_a_reader_that_raises_does_not_stop_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def accepts(self: object, source: Path) -> bool:
        raise OSError("no such disk")

    bad = type("Bad", (Reads,), {"name": "bad", "accepts": accepts})
    fake_entries(monkeypatch, a=module(readers=[bad]), b=module(readers=[Reads]))
    own = Registry(builtins=())
    assert own.reader_for(Path("x.npz")) is Reads
    assert own.plugins()[0].error == "reader `bad` raised OSError: no such disk"
    assert own.plugins()[0].status == "broken"


def test_two_entry_points_of_one_module_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    one = module(passes=[make_pass("a")])
    fake_entries(monkeypatch, a=one, b=one)
    statuses = Registry(builtins=()).plugins(load=True)
    assert [(p.name, p.status) for p in statuses] == [("a", "loaded"), ("b", "conflicting")]


def test_a_name_given_twice_by_one_plugin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = SimpleNamespace()
    twice.graphopt_register_passes = hookimpl(lambda: [make_pass("a")])
    twice.more = hookimpl(specname="graphopt_register_passes")(lambda: [make_pass("a")])
    fake_entries(monkeypatch, a=twice)  # type: ignore[arg-type]
    (status,) = Registry(builtins=()).plugins(load=True)
    assert (status.code, status.error) == ("G402", "pass `a` is registered twice")


def test_a_target_alias_stays_with_the_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = make_target("board", "arm"), make_target("zed", "arm")
    fake_entries(monkeypatch, z=module("z", targets=[theirs]))
    own = Registry(builtins=[module(targets=[ours])])
    assert own.targets() == {"board": ours, "zed": theirs}
    assert (own.target("arm"), own.target("z:arm")) == (ours, theirs)
    (status,) = own.plugins()
    assert (status.status, status.provides) == ("conflicting", ("target zed",))


names = st.text(string.ascii_lowercase + "-", min_size=1, max_size=6).map(lambda text: "a" + text)


@given(st.lists(st.lists(names, unique=True, max_size=4), max_size=4))
def test_the_plugin_that_sorts_first_has_the_name(given_names: list[list[str]]) -> None:
    plugins = {
        f"p{index}": module(f"p{index}", passes=[make_pass(name) for name in each])
        for index, each in enumerate(given_names)
    }
    expected: dict[str, str] = {}
    for plugin, each in zip(plugins, given_names, strict=True):
        for name in each:
            expected.setdefault(name, plugin)
    with pytest.MonkeyPatch.context() as patch:
        fake_entries(patch, **dict(reversed(plugins.items())))
        own = Registry(builtins=())
        assert list(own.passes()) == sorted(expected)
        assert {name: own.provider_of("passes", name) for name in expected} == expected
        conflicts = {p.name for p in own.plugins() if p.status == "conflicting"}
    assert conflicts == {
        plugin
        for plugin, each in zip(plugins, given_names, strict=True)
        if any(expected[name] != plugin for name in each)
    }


def test_the_default_built_ins_come_through_the_same_hooks() -> None:
    own = Registry(plugins=())
    assert {"fold-constants", "insert-qdq"} <= own.passes().keys()
    assert {"arm64-neon", "x86-avx2"} <= own.targets().keys()
    assert {"min-max", "percentile"} <= own.observers().keys()
    assert own.readers()
    assert own.cost_models()
    assert own.target("arm").name != "arm"
    assert own.provider_of("passes", "fold-constants") == "graphopt"
    assert len(BUILTIN_PLUGINS) == len(set(BUILTIN_PLUGINS))
