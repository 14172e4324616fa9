"""What passes settle while they run is in the recipe of the report, each with its own entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pytest

from graphopt.api import compile as compile_model
from graphopt.api import job
from graphopt.passes.base import PassResult
from graphopt.planner import Plan, is_open
from graphopt.recipe import Limits, PassEntry, Recipe, parse_recipe
from graphopt.testing import context, graph
from graphopt.types import Effect
from tests.unit.api.races import lose_first_race
from tests.unit.api.training import registry_with

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.passes.base import Context, Pass
    from graphopt.pipeline import Verifier
    from graphopt.registry import Registry

TEXT = """m (float[N, 4] x) => (float[N, 4] y) <float[4, 4] w> {
  a = MatMul (x, w)
  y = Relu (a) }"""


@dataclass(frozen=True)
class Spend:
    """A pass that is given a time, and says how many steps that was."""

    name: ClassVar[str] = "spend"
    effect: ClassVar[Effect] = Effect.REDUCED

    minutes: float = 0.0
    steps: int = 0
    diverges: float = 0.0
    before: float = -1.0

    def run(self, graph: Graph, context: Context) -> PassResult:
        if not self.minutes:
            return PassResult(False)
        (node,) = graph.nodes("Relu")
        node.name = f"{node.name}+"
        settled = {"minutes": 0.0, "steps": int(100 * self.minutes)}
        metrics = {"divergence": self.diverges, "divergence before": self.before}
        return PassResult(True, ("spent",), metrics, settled)


@pytest.fixture
def registry() -> Registry:
    return registry_with(Spend)


def recipe(*entries: PassEntry) -> Recipe:
    return Recipe(target="x86-avx512-vnni", limits=Limits(), passes=entries)


def test_each_entry_of_the_same_pass_gets_what_it_settled(registry: Registry) -> None:
    asked = recipe(
        PassEntry("spend", {"minutes": 2.0}),
        PassEntry("eliminate-dead"),
        PassEntry("spend"),
        PassEntry("spend", {"minutes": 0.5}),
    )
    made = compile_model(graph(TEXT), recipe=asked, registry=registry)
    found = parse_recipe(made.report.recipe).passes
    assert [e.use for e in found] == [e.use for e in asked.passes]
    assert [e.options.get("steps") for e in found] == [200, None, None, 50]
    assert [e.options.get("minutes") for e in found] == [0.0, None, None, 0.0]
    assert [r.settled.get("steps") for r in made.report.passes] == [200, None, None, 50]


def test_what_was_rolled_back_keeps_what_it_settled(registry: Registry) -> None:
    asked = recipe(PassEntry("spend", {"minutes": 1.0, "diverges": 9.0}))
    made = compile_model(graph(TEXT), recipe=asked, registry=registry)
    (record,) = made.report.passes
    assert record.status == "rolled back"
    assert parse_recipe(made.report.recipe).passes[0].options["steps"] == 100


@pytest.mark.parametrize(("before", "status"), [(9.5, "changed"), (8.5, "rolled back")])
def test_what_brought_outputs_nearer_is_not_at_fault_for_how_far_they_are(
    registry: Registry, before: float, status: str
) -> None:
    asked = recipe(PassEntry("spend", {"minutes": 1.0, "diverges": 9.0, "before": before}))
    made = compile_model(graph(TEXT), recipe=asked, registry=registry)
    assert [r.status for r in made.report.passes] == [status]


def test_a_pass_is_given_the_model_as_it_was() -> None:
    seen: list[Graph] = []

    @dataclass(frozen=True)
    class Look:
        name: ClassVar[str] = "look"
        effect: ClassVar[Effect] = Effect.EXACT

        def run(self, graph: Graph, context: Context) -> PassResult:
            seen.append(context.original)
            return PassResult(False)

    asked = recipe(PassEntry("spend", {"minutes": 1.0}), PassEntry("look"))
    compile_model(graph(TEXT), recipe=asked, registry=registry_with(Spend, Look), dims={"N": 3})
    (given,) = seen
    (node,) = given.nodes("Relu")
    assert not node.name.endswith("+")
    assert given.feeds[0].shape == (3, 4)


def test_a_context_of_a_single_pass_has_the_original_that_the_test_gives() -> None:
    one, other = graph(TEXT), graph(TEXT)
    assert context(model=one).original is one
    assert context(model=one, original=other).original is other
    with pytest.raises(ValueError, match="no original"):
        _ = context().original


def test_what_is_behind_a_plan_that_lost_is_done_to_the_float_model(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe still has it, so the model that the recipe repeats has it too."""
    calls = lose_first_race(monkeypatch)
    monkeypatch.setattr(job.Job, "_decided", integer_planned)
    behind = ("store-weights.format=float16", "limits.never-slower=false")
    source, data = models / "digits_resnet.onnx", models / "digits.npz"
    made = compile_model(source, target="host", data=data, overrides=behind)
    assert len(calls) == 2
    statuses = {r.name: r.status for r in made.report.passes}
    assert statuses["insert-qdq"] == "rolled back"
    assert statuses["store-weights"] == "changed"
    assert not made.graph.nodes("QuantizeLinear")
    monkeypatch.undo()
    again = compile_model(source, data=data, recipe=parse_recipe(made.report.recipe))
    assert again.to_bytes() == made.to_bytes()


def integer_planned(
    self: job.Job, steps: Sequence[Pass], graph: Graph, context: Context, verifier: Verifier
) -> Sequence[Pass]:
    """A plan that puts everything into integers, whatever the clock of this machine says."""
    self.planned = tuple(s for s in steps if is_open(s))
    decided = Plan.closed(steps).placed("integer").steps
    self._settle(decided)
    self.before_plan = graph.copy()
    return decided
