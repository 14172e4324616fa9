"""Passes that prune and train at once, on a small residual network, in float and integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from graphopt_torch.learn_widths import LearnWidths
from graphopt_torch.prune_while_training import PruneWhileTraining
from graphopt_torch.pruning import joint, qap
from graphopt_torch.training.checkpoint import Checkpoint

import graphopt
from graphopt import ir
from graphopt.errors import PassError, RecipeError
from graphopt.passes.prune.goal import Goal
from graphopt.planner.pruning.clock import Ledger
from graphopt.runtime import open_session
from graphopt.testing import context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.passes.base import PassResult
    from graphopt.testing import Recorder

Array = np.ndarray[Any, Any]
QUICK = {"threads": 1, "batch": 16, "augment": "none"}


@pytest.fixture(scope="module")
def integers(request: pytest.FixtureRequest) -> bytes:
    """The digits model in integers."""
    models: Path = request.getfixturevalue("models")
    compiled = graphopt.compile(
        models / "digits_resnet.onnx", data=models / "digits.npz", recipe="integer"
    )
    return ir.to_bytes(compiled.graph)


def contexts(models: Path, graph: Graph, samples: int = 96) -> Recorder:
    original = ir.load(models / "digits_resnet.onnx")
    with np.load(models / "digits.npz") as data:
        few = {name: data[name][:samples] for name in data.files}
    made = context(data=few, model=graph, original=original)
    assert made.dataset is not None
    made.probes = [feed for feed, _ in zip(made.dataset, range(2), strict=False)]
    return made


def ran(step: Any, models: Path, graph: Graph) -> PassResult:
    return step.run(graph, contexts(models, graph))  # type: ignore[no-any-return]


def figures(models: Path, graph: Graph) -> dict[str, float]:
    ir.infer_shapes(graph)
    return Ledger(contexts(models, graph), "macs").totals(graph)


def accuracy(models: Path, graph: Graph) -> float:
    with np.load(models / "digits_test.npz") as data:
        images, labels = data["input"], data[next(n for n in data.files if n != "input")]
    (scores,) = open_session(graph).run({"input": images.astype(np.float32)})
    return float((scores.argmax(axis=1) == labels).mean())


def test_float_channels_go_and_what_is_left_is_trained(models: Path) -> None:
    graph = ir.load(models / "digits_resnet.onnx")
    before = figures(models, graph)
    step = PruneWhileTraining(to="macs=0.6x", steps=32, removals=4, **QUICK)  # type: ignore[arg-type]
    result = ran(step, models, graph)
    ir.verify(graph)
    assert result.modified
    assert figures(models, graph)["macs"] <= 0.6 * before["macs"]
    assert result.metrics["oracle error"] <= 1e-5
    assert result.metrics["divergence"] <= result.metrics["divergence before"]
    assert result.metrics["divergence"] < 0.3
    assert accuracy(models, graph) > 0.85
    assert result.settled["steps"] == 32
    assert result.settled["share"] == 0.5
    assert result.settled["minutes"] == 0.0


def test_integers_are_pruned_with_their_quantizers(models: Path, integers: bytes) -> None:
    graph = ir.from_bytes(integers)
    before = figures(models, graph)
    pairs = len(graph.nodes("QuantizeLinear"))
    step = PruneWhileTraining(to="latency=0.8x", steps=20, removals=3, **QUICK)  # type: ignore[arg-type]
    result = ran(step, models, graph)
    ir.verify(graph)
    assert len(graph.nodes("QuantizeLinear")) == pairs
    assert figures(models, graph)["latency"] <= 0.8 * before["latency"]
    assert result.metrics["oracle error"] <= 1e-5
    assert accuracy(models, graph) > 0.7


def test_the_same_again(models: Path, integers: bytes) -> None:
    step = PruneWhileTraining(to="macs=0.8x", steps=4, removals=2, **QUICK)  # type: ignore[arg-type]
    graphs = [ir.from_bytes(integers) for _ in range(2)]
    for graph in graphs:
        ran(step, models, graph)
    assert ir.to_bytes(graphs[0]) == ir.to_bytes(graphs[1])


def test_widths_are_learned_within_a_budget(models: Path) -> None:
    graph = ir.load(models / "digits_resnet.onnx")
    before = figures(models, graph)
    step = LearnWidths(to="latency=0.7x", steps=40, **QUICK)  # type: ignore[arg-type]
    result = ran(step, models, graph)
    ir.verify(graph)
    assert figures(models, graph)["latency"] <= 0.7 * before["latency"]
    assert result.metrics["units removed"] > 0
    assert result.metrics["weights in 4 bits"] == 0
    assert result.metrics["divergence"] <= result.metrics["divergence before"]
    assert accuracy(models, graph) > 0.7


def test_bits_and_widths_share_a_size(models: Path, integers: bytes) -> None:
    graph = ir.from_bytes(integers)
    before = figures(models, graph)
    step = LearnWidths(to="latency=0.9x, size=0.7x", steps=30, **QUICK)  # type: ignore[arg-type]
    result = ran(step, models, graph)
    ir.verify(graph)
    after = figures(models, graph)
    assert after["latency"] <= 0.9 * before["latency"]
    assert after["size"] <= 0.7 * before["size"]
    assert result.metrics["units removed"] > 0
    assert accuracy(models, graph) > 0.6


def test_learned_widths_are_the_same_again(models: Path) -> None:
    step = LearnWidths(to="macs=0.7x", steps=4, **QUICK)  # type: ignore[arg-type]
    graphs = [ir.load(models / "digits_resnet.onnx") for _ in range(2)]
    for graph in graphs:
        ran(step, models, graph)
    assert ir.to_bytes(graphs[0]) == ir.to_bytes(graphs[1])


class _StoppedError(Exception):
    """A training was interrupted."""


@pytest.mark.parametrize(
    "step",
    [
        PruneWhileTraining(to="macs=0.8x", steps=9, share=0.7, removals=3, **QUICK),  # type: ignore[arg-type]
        LearnWidths(to="macs=0.8x", steps=9, share=0.7, **QUICK),  # type: ignore[arg-type]
    ],
)
def test_an_interrupted_training_goes_on(
    models: Path, step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, whole = (ir.load(models / "digits_resnet.onnx") for _ in range(2))
    ran(step, models, whole)
    taken: list[int] = []

    def telling(*_: object) -> Callable[[int, int, str], None]:
        def tell(done: int, total: int, text: str) -> None:
            taken.append(done)
            if len(taken) == 5:
                raise _StoppedError

        return tell

    for module in (joint, qap):
        monkeypatch.setattr(module, "telling", telling)
    always = lambda self, state: self.save(state())  # noqa: E731
    monkeypatch.setattr(Checkpoint, "save_if_due", always)
    with pytest.raises(_StoppedError):
        ran(step, models, graph)
    graph = ir.load(models / "digits_resnet.onnx")
    ran(step, models, graph)
    assert taken == [1, 2, 3, 4, 5, 5, 6]
    assert ir.to_bytes(graph) == ir.to_bytes(whole)


@pytest.mark.parametrize("step", [PruneWhileTraining(), LearnWidths()])
def test_without_a_goal_nothing_is_done(models: Path, step: Any) -> None:
    graph = ir.load(models / "digits_resnet.onnx")
    before = ir.to_bytes(graph)
    assert not ran(step, models, graph).modified
    assert ir.to_bytes(graph) == before


@pytest.mark.parametrize("kind", [PruneWhileTraining, LearnWidths])
def test_what_is_reached_already_is_left_alone(models: Path, kind: Any) -> None:
    graph = ir.load(models / "digits_resnet.onnx")
    result = ran(kind(to="macs=1.0x", steps=4, **QUICK), models, graph)
    assert not result.modified


@pytest.mark.parametrize("kind", [PruneWhileTraining, LearnWidths])
def test_what_cannot_be_reached_is_refused_before_training(models: Path, kind: Any) -> None:
    graph = ir.load(models / "digits_resnet.onnx")
    with pytest.raises(PassError) as raised:
        ran(kind(to="macs=1k", steps=4, **QUICK), models, graph)
    assert raised.value.code == "G308"


@pytest.mark.parametrize(
    "options",
    [{"to": "speed=2x"}, {"to": "macs=0.5x,macs=1M"}, {"bits": (4,)}, {"bits": (8, 3)}],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        LearnWidths(**options)


def test_goals_are_those_of_prune_channels() -> None:
    assert Goal.parse(PruneWhileTraining(to="size=100kB").to).metric == "size"
    assert LearnWidths(to="latency=0.7x, size=0.4x").goals == ("latency=0.7x", "size=0.4x")
    assert LearnWidths(to="size=0.4x").has_bits
    assert not LearnWidths(to="latency=0.4x").has_bits
    assert not LearnWidths(to="size=0.4x", bits=(8,)).has_bits
