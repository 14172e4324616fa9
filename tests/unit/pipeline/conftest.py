"""A small model, passes that misbehave, and a runner to put them through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from graphopt import ir
from graphopt.passes.base import PassResult
from graphopt.pipeline import PipelineContext, Runner, Verifier, probe_feeds
from graphopt.recipe import Limits
from graphopt.testing import context, graph, named_target, random_feeds
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph
    from graphopt.passes.base import Context, Pass

MODEL = """m (float[N, 4] x) => (float[N, 4] y) <float[4, 4] w, float[4] b> {
  a = Gemm (x, w, b)
  r = Relu (a)
  t = Tanh (r)
  y = Neg (t) }"""


@dataclass(frozen=True)
class Change:
    """A pass that does one thing to the graph, and says what it is told to say."""

    name: ClassVar[str] = "change"
    effect: ClassVar[Effect] = Effect.EXACT
    act: Callable[[Graph], None]
    modified: bool = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        self.act(graph)
        return PassResult(self.modified, ("done",), {"count": 1.0})


@dataclass(frozen=True)
class Blur(Change):
    """The same, and it may cost accuracy."""

    name: ClassVar[str] = "blur"
    effect: ClassVar[Effect] = Effect.APPROXIMATE


@dataclass
class Bench:
    """A graph, the runner, and what they were before."""

    graph: Graph
    runner: Runner
    before: str

    def run(self, *passes: Pass) -> Bench:
        self.runner.run(self.graph, passes)
        return self

    @property
    def untouched(self) -> bool:
        """Whether the graph is what it was, down to the hash, and legal."""
        ir.verify(self.graph)
        return ir.structural_hash(self.graph) == self.before


@pytest.fixture
def model() -> Graph:
    return graph(MODEL)


@pytest.fixture
def passes() -> tuple[type[Change], type[Blur]]:
    """Return the exact and the approximate pass class."""
    return Change, Blur


@pytest.fixture
def bench(model: Graph) -> Callable[..., Bench]:
    """Return a function that makes a runner on the model."""

    def make(*, strict: bool = False, limits: Limits | None = None, **given: Any) -> Bench:
        target = named_target("x86-avx512-vnni")
        made: PipelineContext = context()
        feeds = random_feeds(model, count=3)
        verifier = Verifier(model, target, probe_feeds(model, feeds, 0), feeds)
        runner = Runner(made, verifier, limits or Limits(), strict=strict, **given)
        return Bench(model.copy(), runner, ir.structural_hash(model))

    return make
