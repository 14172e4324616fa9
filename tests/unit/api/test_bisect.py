"""The pass and the node that made two models differ, through the API and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

import graphopt
from graphopt import api, ir
from graphopt.api import bisect as bisection
from graphopt.cli.progress import Silence
from graphopt.errors import GraphOptError, RecipeError
from graphopt.passes.base import PassResult
from graphopt.testing import graph, run_cli
from graphopt.types import Effect

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.passes.base import Context

ORIGINAL = """m (float[N, T, 8] x) => (float[N, T, 8] y) <float[8, 8] w, float[8] c> {
  h = MatMul (x, w)
  g = Add (h, c)
  r = Relu (g)
  i = Identity (r)
  q = Mul (i, c)
  y = Tanh (q) }"""


@dataclass(frozen=True)
class Forget:
    """A pass that drops the Relu, and calls that exact."""

    name: ClassVar[str] = "forget-relu"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        (relu,) = graph.nodes("Relu")
        source = relu.inputs[0]
        assert source is not None
        graph.replace_uses(relu.outputs[0], source)
        graph.remove(relu)
        return PassResult(True)


@dataclass(frozen=True)
class Crash(Forget):
    """A pass that fails."""

    name: ClassVar[str] = "crash"

    def run(self, graph: Graph, context: Context) -> PassResult:
        super().run(graph, context)
        raise ZeroDivisionError("oops")


@pytest.fixture
def original() -> Graph:
    return graph(ORIGINAL)


@pytest.fixture
def with_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bisection.make_passes

    def made(*args: Any) -> Any:
        steps = real(*args)
        return [*steps[:3], Crash(), *steps[3:8], Forget(), *steps[8:]]

    monkeypatch.setattr(bisection, "make_passes", made)


def test_two_models(original: Graph) -> None:
    other = graph(ORIGINAL.replace("Relu", "Abs"))
    found = api.diff(original, other, bisect=True).bisection
    assert found is not None
    assert found.parting is not None
    assert found.parting.tensor == "r"
    assert found.parting.agreed == ("g",)
    assert (found.parting.nodes_a, found.parting.nodes_b) == (("Relu `r`",), ("Abs `r`",))
    assert found.parting.shapes == {"x": (2, 5, 8)}
    assert api.diff(original, other).bisection is None


@pytest.mark.usefixtures("with_faults")
def test_the_pass_of_a_recipe_that_changes_outputs_is_named(original: Graph) -> None:
    done = api.diff(original, recipe="lossless", target="x86")
    found = done.bisection
    assert found is not None
    assert found.guilty == "forget-relu"
    assert found.passes[-1].name == "forget-relu"
    (crashed,) = (p for p in found.passes if p.status == "failed")
    assert (crashed.name, crashed.reason) == ("crash", "ZeroDivisionError('oops')")
    assert found.parting is not None
    assert found.parting.agreed == ("g",)
    assert "Relu `r`" in found.parting.nodes_a
    assert done.outputs[0].max_rel > 1e-4


def test_a_good_recipe_has_no_guilty_pass(original: Graph) -> None:
    found = api.diff(original, recipe="lossless", target="x86").bisection
    assert found is not None
    assert (found.guilty, found.parting) == (None, None)
    assert "changed" in {p.status for p in found.passes}


def test_the_input_that_shows_it_can_be_used_again(original: Graph, tmp_path: Path) -> None:
    other = graph(ORIGINAL.replace("Relu", "Abs"))
    saved = tmp_path / "input.npz"
    first = api.diff(original, other, bisect=True, save_input=saved).bisection
    again = api.diff(original, other, bisect=True, data=saved).bisection
    assert first is not None
    assert again is not None
    assert first.parting is not None
    assert again.parting is not None
    assert again.parting.values == first.parting.values
    with pytest.raises(GraphOptError) as raised:
        api.diff(original, other, bisect=True, save_input=tmp_path / "no" / "input.npz")
    assert raised.value.code == "G208"


def test_mistakes_have_a_code(original: Graph) -> None:
    for given in ({}, {"b": original, "recipe": "lossless"}):
        with pytest.raises(RecipeError) as raised:
            api.diff(original, **given)  # type: ignore[arg-type]
        assert raised.value.code == "G108"
    unrelated = graph("m (float[N] x) => (float[N] z) { z = Neg (x) }")
    with pytest.raises(GraphOptError) as other:
        api.diff(original, unrelated, bisect=True)
    assert other.value.code == "G215"


def test_outputs_of_other_shapes_and_types_have_a_distance() -> None:
    one = graph("m (float[2, 3] x) => (float[2, 3] y, bool[2, 3] b) {"
                " y = Neg (x)\n b = Equal (x, y) }")  # fmt: skip
    other = graph("m (float[2, 3] x) => (float[3, 2] y, bool[2, 3] b) {"
                  " y = Transpose (x)\n b = Equal (x, x) }")  # fmt: skip
    y, b = api.diff(one, other).outputs
    assert (y.max_abs, y.max_rel) == (np.inf, np.inf)
    assert b.max_abs == 1.0


def test_the_command_line(original: Graph, tmp_path: Path) -> None:
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    ir.save(original, paths[0])
    ir.save(graph(ORIGINAL.replace("Relu", "Abs")), paths[1])
    done = run_cli("diff", paths[0], paths[1], "--bisect")
    assert done.code == 0
    tail = done.out[done.out.index("first difference") :].splitlines()
    assert tail[0] == "first difference: `r`"
    assert [line.split("  ")[1] for line in tail[1:]] == [
        "relative error",
        "largest at",
        "computed in a by",
        "computed in b by",
        "equal before it",
        "shown by input",
        "compared",
    ]
    assert all(len(line) <= 80 for line in done.out.splitlines())
    as_json = run_cli("diff", paths[0], paths[1], "--bisect", "--format", "json").json
    assert as_json["bisection"]["parting"]["tensor"] == "r"
    passes = run_cli("diff", paths[0], "--recipe", "lossless", "--target", "x86", "--bisect")
    assert passes.code == 0
    assert "all outputs agree to 0.0001" in passes.out
    assert run_cli("diff", paths[0]).code == 2
    assert run_cli("diff", paths[0], paths[0], "--bisect", "--tolerance", "0").code == 0
    assert graphopt.compile is not None


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"target": "arm"}, "--recipe"),
        ({"tolerance": 0.1}, "--bisect"),
        ({"save_input": "differs.npz"}, "--bisect"),
    ],
)
def test_what_belongs_to_a_search_is_not_ignored_without_one(
    original: Graph, options: dict[str, object], missing: str
) -> None:
    with pytest.raises(RecipeError, match=missing) as caught:
        api.diff(original, original.copy(), **options)  # type: ignore[arg-type]
    assert caught.value.code == "G108"


def test_the_passes_of_a_recipe_are_told_as_they_run(original: Graph) -> None:
    started: list[str] = []

    class Watch(Silence):
        def pass_started(self, name: str) -> None:
            started.append(name)

    api.diff(original, recipe="lossless", observe=Watch())
    assert started[0] == "fix-initializers"
    assert started[-1] == "eliminate-dead"
