"""Targets, passes and plugins, as listed and as explained; commands and faults of plugins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import click
import pytest

from graphopt.cli.render_targets import target_list, target_page
from graphopt.cli.settings import Settings
from graphopt.errors import TargetError
from graphopt.registry import PluginStatus
from graphopt.targets import builtin_targets, host_target
from graphopt.targets.base import Compute, Energy, Memory, QuantizationRules, Target
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable

ARM = Target(
    name="arm64-neon",
    summary="64-bit Arm without dot product: Cortex-A53, A72",
    runtime="onnxruntime-arm64",
    provider="CPUExecutionProvider",
    isa=("neon",),
    quantization=QuantizationRules(activations="int8", symmetric_activations=True),
    compute=Compute(1.5, 4, {"float32": 4.0, "int8": 8.0}, {"int8.depthwise": 0.25}),
    memory=Memory(512 * 1024, 10.0, 3.2),
    uncertainty=0.4,
    sources={"compute.frequency_ghz": "the board's data sheet"},
    energy=Energy(2.5),
    aliases=("arm",),
)


@dataclass(frozen=True)
class DropNodes:
    """Remove the nodes that
    are not wanted.

    More of it.
    """

    name: ClassVar[str] = "drop-nodes"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    max_channels: int | None = None
    keep: tuple[str, ...] = ("a",)


@click.command("hello")
def hello() -> None:
    """Greet."""
    click.echo("hello from a plugin")


class FakeRegistry:
    asked: ClassVar[list[str]] = []

    def targets(self) -> dict[str, Target]:
        return {ARM.name: ARM}

    def target(self, name: str) -> Target:
        if name not in (ARM.name, *ARM.aliases):
            raise TargetError(f"unknown target `{name}`", hint="did you mean `arm`?")
        return ARM

    def passes(self) -> dict[str, type[DropNodes]]:
        return {"drop-nodes": DropNodes}

    def pass_class(self, name: str) -> type[DropNodes]:
        return DropNodes

    def commands(self) -> dict[str, click.Command]:
        self.asked.append("commands")
        return {"hello": hello}

    def plugins(self, *, load: bool = False) -> list[PluginStatus]:
        good = PluginStatus("demo", "graphopt-demo", "1.0", "loaded", ("command hello",))
        fault = "No module named 'torch'"
        return [good, PluginStatus("fancy", "fancy", "0.3", "broken", (), fault, "G401")]


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    fake = FakeRegistry()
    fake.asked.clear()

    def make(settings: Settings) -> Any:
        settings._registry = fake  # type: ignore[assignment]
        return fake

    monkeypatch.setattr(Settings, "registry", property(make))
    return fake


def test_targets(run: Callable) -> None:
    assert run("targets").out == (
        "other\n  arm64-neon  64-bit Arm without dot product: Cortex-A53, A72 (arm)\n"
    )
    page = run("targets", "arm").out
    assert page.startswith("arm64-neon\n64-bit Arm")
    assert all(len(line) <= 80 for line in page.splitlines())
    page = " ".join(page.split())
    assert "symmetric activations yes" in page
    assert "cache 512.0 KiB" in page
    assert "macs per cycle, int8 8" in page
    assert "within +-40 %; energy is only compared" in page
    assert "figures that are assumed or a rule compute.frequency_ghz" in page
    assert "the board's data sheet" in page
    assert run("targets", "--format", "json").json[0]["aliases"] == ["arm"]
    assert run("targets", "arm", "--format", "json").json["compute"]["cores"] == 4
    wrong = run("targets", "amr")
    assert wrong.code == 2
    assert wrong.err.startswith("error[G501]: unknown target `amr`\n\nhint: did you mean `arm`?\n")


def test_targets_are_listed_by_family() -> None:
    shipped = [*builtin_targets(), host_target()]
    lines = [click.unstyle(line) for line in target_list(shipped, 80)]
    assert lines[0] == "This machine"
    assert lines[1].startswith("  host ")
    heads = [line for line in lines if line and not line.startswith(" ")]
    assert heads[1:4] == ["x86-64", "64-bit Arm", "Microcontrollers"]
    assert heads[-1].startswith("NPUs: for estimates")
    assert all(len(line) <= 80 for line in lines)
    named = {line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "}
    assert named == {target.name for target in shipped}


@pytest.mark.parametrize("name", ["cortex-m4", "cortex-a55", "nvidia-h200", "wasm"])
def test_a_shipped_target_says_what_its_figures_rest_on(name: str) -> None:
    target = next(t for t in builtin_targets() if t.name == name)
    page = " ".join(" ".join(target_page(target)).split())
    assert all(text.split()[0] in page for text in target.sources.values())
    told = {
        "cortex-m4": "energy is estimated in joules, from measured power",
        "cortex-a55": "published, but not looked up compute.cores",
        "nvidia-h200": "what is compiled for it was never run",
        "wasm": "nothing is known about energy",
    }
    assert told[name] in page


def test_passes(run: Callable) -> None:
    assert run("passes").out == (
        "pass        effect       what it does\n"
        "drop-nodes  approximate  Remove the nodes that are not wanted\n"
    )
    page = run("passes", "drop-nodes").out
    assert "effect  approximate: measured against the limits of the recipe" in page
    assert "  max-channels  int | None       -\n" in page
    assert "  keep          tuple[str, ...]  ('a',)\n" in page
    assert "--set drop-nodes.OPTION=VALUE" in page
    facts = run("passes", "--format", "json").json
    assert facts[0]["options"][1]["name"] == "keep"
    assert run("passes", "drop-nodes", "--format", "json").json == facts[0]


def test_plugins_lists_the_broken_ones_without_a_second_warning(run: Callable) -> None:
    done = run("plugins")
    assert done.out == (
        "plugin  version            status\n"
        "demo    graphopt-demo 1.0  loaded  command hello\n"
        "fancy   fancy 0.3          broken  [G401] No module named 'torch'\n"
    )
    assert done.err == ""
    assert run("plugins", "--format", "json").json[1]["code"] == "G401"


def test_a_broken_plugin_that_was_needed_is_named_once_and_changes_nothing(run: Callable) -> None:
    done = run("targets")
    assert done.code == 0
    assert done.err == (
        "warning[G401]: plugin `fancy` 0.3 could not be used and is ignored: No module\n"
        "               named 'torch'\n"
        "               `graphopt plugins` lists all\n"
    )
    assert run("targets", "-q") == (0, "", "")


def test_a_plugin_command_is_found_only_when_the_name_is_not_built_in(
    run: Callable, registry: FakeRegistry
) -> None:
    assert run("targets").code == 0
    assert run("--help").code == 0
    assert registry.asked == []
    assert run("hello").out == "hello from a plugin\n"
    assert registry.asked
    done = run("--no-plugins", "hello")
    assert done.code == 2
    assert "no such command `hello`" in done.err


def test_what_is_piped_is_never_wrapped(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "word " * 40
    monkeypatch.setattr(FakeRegistry, "passes", lambda _: {"x": _documented(long)})
    assert len(run("passes").out.splitlines()) == 2


def _documented(text: str) -> type:
    return type("X", (DropNodes,), {"__doc__": text})
