"""Real packages with real entry points: what the registry makes of each."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from graphopt.errors import PluginError, RecipeError
from graphopt.hookspecs import hookimpl
from graphopt.passes.base import Pass
from graphopt.registry import PluginStatus, Registry

# Every entry point of packages/, in the order in which the registry has them.
NAMES = [
    *("broken", "broken-exit", "broken-hook", "example", "example-pruning", "example-rewrite"),
    *("good", "greedy", "misspelt", "old", "old-defaults", "unmarked", "wrong-return"),
]
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("site")


def builtins() -> list[ModuleType]:
    """Return a stand-in for graphopt's own passes, with the one name that ``greedy`` takes."""
    from dataclasses import make_dataclass

    from graphopt.types import Effect

    namespace = {"name": "fold-constants", "effect": Effect.EXACT, "run": lambda *_: None}
    own = make_dataclass("FoldConstants", (), namespace=namespace, frozen=True)
    module = ModuleType("own")
    module.graphopt_register_passes = hookimpl(lambda: [own])  # type: ignore[attr-defined]
    return [module]


@pytest.fixture
def registry() -> Registry:
    return Registry(plugins=NAMES, builtins=builtins())


def loaded(registry: Registry, name: str) -> PluginStatus:
    found = [plugin for plugin in registry.plugins(load=True) if plugin.name == name]
    return found[0]


def test_listing_is_sorted_names_every_plugin_and_imports_none(registry: Registry) -> None:
    listed = registry.plugins()
    tests = [plugin for plugin in listed if "test" in plugin.distribution]
    assert [p.name for p in listed if p.status == "not loaded"] == NAMES
    assert sorted(p.name for p in tests) == [p.name for p in tests]
    assert not [name for name in sys.modules if name.startswith("graphopt_test_")]


def test_a_rule_and_a_criterion_are_found_among_the_built_in_ones(registry: Registry) -> None:
    assert registry.provider_of("coupling", "DFT") == "example-pruning"
    assert registry.coupling_rules()["DFT"].op == "DFT"
    assert registry.importances()["fluctuation"]().name == "fluctuation"
    assert loaded(registry, "example-pruning").provides == (
        *("coupling rule DFT", "importance criterion fluctuation"),
    )


def test_a_good_plugin_is_loaded_whatever_the_others_do(registry: Registry) -> None:
    status = loaded(registry, "good")
    assert status == PluginStatus(
        "good",
        "graphopt-test-good",
        "1.2",
        "loaded",
        ("metric test-accuracy", "pass leave-alone"),
    )
    assert registry.pass_class("leave-alone").__module__ == "graphopt_test_good"
    assert registry.provider_of("passes", "leave-alone") == "good"
    assert registry.provider_of("passes", "fold-constants") == "graphopt"
    assert isinstance(registry.pass_class("leave-alone")(), Pass)


@pytest.mark.parametrize(
    ("name", "distribution", "version", "status", "code", "error"),
    [
        ("broken", "broken", "0.3", "broken", "G401", "No module named 'graphopt_test_module_"),
        ("broken-exit", "broken", "0.3", "broken", "G401", "SystemExit: 3"),
        (
            *("broken-hook", "broken", "0.3", "broken", "G401"),
            "`graphopt_register_passes` raised ValueError: no passes today",
        ),
        (
            *("misspelt", "misspelt", "0.1", "invalid", "G403"),
            "`graphopt_register_pases` is not a hook of graphopt; "
            "did you mean `graphopt_register_passes`?",
        ),
        ("unmarked", "misspelt", "0.1", "invalid", "G403", "it implements no hook; is `@hookimpl`"),
        ("old", "old", "0.1", "invalid", "G403", "{'configuration'} are declared in the hookimpl"),
        (
            *("old-defaults", "old", "0.1", "invalid", "G403"),
            "`graphopt_register_passes` has a default for its parameter `configuration`",
        ),
        (
            *("wrong-return", "wrong-return", "0.9", "invalid", "G404"),
            "`graphopt_register_passes` returned `NotAPass`, which has no method `run`",
        ),
        (
            *("greedy", "conflicting", "2.0", "conflicting", "G402"),
            "pass `fold-constants` of graphopt-test-conflicting is also provided by "
            "graphopt (built in), which is used; `greedy:fold-constants` chooses this one",
        ),
    ],
)
def test_a_faulty_plugin_is_named_and_skipped(
    registry: Registry,
    name: str,
    distribution: str,
    version: str,
    status: str,
    code: str,
    error: str,
) -> None:
    found = loaded(registry, name)
    assert (found.distribution, found.version) == (f"graphopt-test-{distribution}", version)
    assert (found.status, found.code) == (status, code)
    assert error in (found.error or "")
    assert "\n" not in (found.error or "")


def test_a_failing_hook_takes_away_only_what_it_would_have_given(registry: Registry) -> None:
    assert loaded(registry, "broken-hook").provides == ("metric always-one",)
    assert registry.metric("always-one")([], []) == 1.0
    # One wrong thing in a list takes the list away: half an answer would hide the fault.
    assert loaded(registry, "wrong-return").provides == ()
    assert "fine-on-its-own" not in registry.passes()
    assert "`graphopt_register_targets` returned a NoneType" in str(
        loaded(registry, "wrong-return").error
    )


def test_of_two_plugins_with_one_pass_name_the_first_wins(registry: Registry) -> None:
    status = loaded(registry, "greedy")
    assert "also provided by plugin `good` 1.2 (graphopt-test-good)" in str(status.error)
    assert status.provides == (
        *("pass greedy:fold-constants", "pass greedy:leave-alone", "pass only-here"),
    )
    assert registry.pass_class("leave-alone").__module__ == "graphopt_test_good"
    assert registry.pass_class("greedy:leave-alone").__module__ == "graphopt_test_conflicting"
    assert registry.pass_class("greedy:fold-constants").__module__ == "graphopt_test_conflicting"
    assert registry.provider_of("passes", "graphopt:fold-constants") == "graphopt"
    assert registry.provider_of("passes", "only-here") == "greedy"


def test_who_wins_does_not_depend_on_what_was_asked_first(registry: Registry) -> None:
    registry.pass_class("greedy:leave-alone")
    assert registry.provider_of("passes", "leave-alone") == "good"


def test_of_two_plugins_with_one_name_both_distributions_are_named(registry: Registry) -> None:
    again = [p for p in registry.plugins() if p.distribution == "graphopt-test-same-name"]
    assert [(p.name, p.code) for p in again if p.status == "conflicting"] == [("good", "G402")]
    error = str(again[0].error)
    assert "`good` 1.2 (graphopt-test-good) has the name that graphopt-test-same-name" in error


def test_a_plugin_cannot_take_a_name_of_graphopt_itself() -> None:
    registry = Registry(plugins=["graphopt.passes"], builtins=builtins())
    status = loaded(registry, "graphopt.passes")
    assert (status.status, status.code) == ("conflicting", "G402")
    assert list(registry.passes()) == ["fold-constants"]


def test_a_plugin_is_named_before_its_code_runs() -> None:
    announced: list[tuple[str, bool]] = []

    def announce(text: str) -> None:
        announced.append((text, "graphopt_test_good" in sys.modules))

    registry = Registry(plugins=["good"], builtins=builtins(), announce=announce)
    registry.pass_class("fold-constants")
    assert announced == []
    registry.pass_class("leave-alone")
    registry.passes()
    assert announced == [("plugin `good` 1.2 (graphopt-test-good)", False)]


def test_a_qualified_name_loads_that_plugin_only(registry: Registry) -> None:
    registry.pass_class("good:leave-alone")
    assert [p.name for p in registry.plugins() if p.status == "loaded"] == ["good"]


def test_a_name_that_a_skipped_plugin_may_have_says_so(registry: Registry) -> None:
    with pytest.raises(RecipeError, match="unknown pass `leave-alon`") as caught:
        registry.pass_class("leave-alon")
    assert caught.value.code == "G105"
    hint = str(caught.value.hint)
    assert hint.startswith("did you mean `leave-alone`?; skipped plugins may have it")
    assert "`broken`" in hint
    assert "`greedy`" not in hint


def test_a_pass_of_a_broken_plugin_is_an_error_that_names_it(registry: Registry) -> None:
    with pytest.raises(PluginError) as caught:
        registry.pass_class("broken:anything")
    assert caught.value.code == "G401"
    assert "plugin `broken` 0.3 (graphopt-test-broken), which was skipped" in str(caught.value)


@pytest.mark.parametrize(("chosen", "names"), [("", []), ("good", ["good"]), (" good ,", ["good"])])
def test_the_environment_chooses_plugins(
    monkeypatch: pytest.MonkeyPatch, chosen: str, names: list[str]
) -> None:
    monkeypatch.setenv("GRAPHOPT_PLUGINS", chosen)
    status = Registry(builtins=builtins()).plugins(load=True)
    assert [plugin.name for plugin in status if plugin.status == "loaded"] == names
    assert {plugin.status for plugin in status} - {"loaded"} == {"disabled"} | (
        {"conflicting"} if names else set()
    )


def test_what_is_given_in_code_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_PLUGINS", "good")
    registry = Registry(plugins=(), builtins=builtins())
    assert list(registry.passes()) == ["fold-constants"]
    with pytest.raises(RecipeError, match="disabled") as caught:
        registry.pass_class("good:leave-alone")
    assert caught.value.code == "G107"


def test_tracing_names_plugin_and_hook(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry(plugins=["broken", "good"], builtins=builtins())
    registry.enable_tracing()
    with caplog.at_level(logging.DEBUG, logger="graphopt.plugins"):
        registry.passes()
    text = caplog.text
    assert "import plugin `good` 1.2 (graphopt-test-good) from graphopt_test_good" in text
    assert "plugin `good` 1.2 (graphopt-test-good): graphopt_register_passes gave 1" in text
    assert "plugin `broken` 0.3 (graphopt-test-broken) failed: No module" in text


SCRIPT = """
import dataclasses, json, sys
from graphopt.registry import Registry
registry = Registry()
before = registry.plugins()
heavy = sorted({"onnx", "onnxruntime", "networkx", "click", "rich"} & sys.modules.keys())
example = registry.pass_class("eliminate-dropout")
after = [dataclasses.asdict(status) for status in registry.plugins(load=True)]
print(json.dumps({"names": [p.name for p in before], "heavy": heavy, "after": after,
                  "options": [field.name for field in dataclasses.fields(example)]}))
"""


def test_a_fresh_process_sees_everything_and_listing_is_cheap(site: Path) -> None:
    path = os.pathsep.join([str(site), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["heavy"] == []
    assert told["options"] == ["keep"]
    assert set(NAMES) <= set(told["names"])
    by_name = {(plugin["name"], plugin["distribution"]): plugin for plugin in told["after"]}
    example = by_name["example", "graphopt-example"]
    assert (example["status"], example["version"]) == ("loaded", "0.1.0")
    assert example["provides"] == ["pass eliminate-dropout"]
    assert by_name["good", "graphopt-test-good"]["status"] == "loaded"
    assert by_name["broken", "graphopt-test-broken"]["status"] == "broken"
    greedy = by_name["greedy", "graphopt-test-conflicting"]
    assert (
        "pass `fold-constants` of graphopt-test-conflicting is also provided by graphopt"
        in (greedy["error"])
    )
