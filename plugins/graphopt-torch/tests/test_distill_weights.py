"""Distillation of a real model: better or as it was, repeatable, and resumable."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from graphopt_torch.distill_weights import DistillWeights
from graphopt_torch.samples import TrainingSamples
from graphopt_torch.training import distillation
from graphopt_torch.training.trainer import Trainer

from graphopt import ir
from graphopt.errors import GraphOptError, RecipeError
from graphopt.passes.prune.outputs import output_divergence
from graphopt.passes.prune.samples import is_scored
from graphopt.testing import context, graph

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.testing import Recorder

STATED = DistillWeights(steps=24, rate=1e-3, batch=16, threads=1)


def worse(original: Graph, share: float = 0.15, seed: int = 0) -> Graph:
    """Return a model whose weights are disturbed: the work of some pass that costs accuracy."""
    made = original.copy()
    random = np.random.default_rng(seed)
    for value in made.initializers:
        array = value.array()
        if array.dtype == np.float32 and array.ndim > 1:
            noise = random.standard_normal(array.shape).astype(np.float32)
            made.set_tensor(value, ir.Tensor.from_array(array + share * array.std() * noise))
    return made


@pytest.fixture(scope="module")
def digits(models: Path) -> Graph:
    return ir.load(models / "digits_resnet.onnx")


@pytest.fixture
def given(digits: Graph, models: Path) -> Recorder:
    with np.load(models / "digits.npz") as data:
        samples = {name: data[name][:120] for name in data.files if name == digits.feeds[0].name}
    return context(data=samples, model=digits)


def coarser(model: Graph) -> Graph:
    """Return a quantized model whose weights have only every sixteenth of their integers."""
    for value in model.initializers:
        array = value.array()
        if array.dtype == np.int8 and array.ndim > 1:
            rough = np.clip(np.round(array / 16.0) * 16.0, -112, 112).astype(np.int8)
            model.set_tensor(value, ir.Tensor.from_array(rough))
    return model


def stored(model: Graph) -> dict[str, bytes]:
    return {v.name: v.array().tobytes() for v in model.initializers}


def skeleton(model: Graph) -> str:
    """Return everything of a graph but its values."""
    made = model.copy()
    for value in made.initializers:
        array = value.array()
        if array.dtype.kind == "f":
            made.set_tensor(value, ir.Tensor.from_array(np.zeros_like(array)))
    return ir.structural_hash(made)


def test_it_comes_nearer_to_the_original(digits: Graph, given: Recorder) -> None:
    made = worse(digits)
    before = output_divergence(digits, made, given, lambda _: True)
    result = STATED.run(made, given)
    after = output_divergence(digits, made, given, lambda _: True)
    assert result.modified
    assert before is not None
    assert after is not None
    assert after < 0.7 * before
    assert result.metrics["divergence"] < 0.7 * result.metrics["divergence before"]
    assert result.metrics["steps taken"] == 24


def test_the_divergence_is_that_of_the_samples_which_were_kept(
    digits: Graph, given: Recorder
) -> None:
    """The same number as the pruning passes report: it is compared with the same limit."""
    made = worse(digits)
    result = STATED.run(made, given)
    kept = set(TrainingSamples.of(made, given).held_out)
    assert 12 <= len(kept) <= 24
    assert all(map(is_scored, kept)), "pruning has fitted nothing to them"
    expected = output_divergence(digits, made, given, kept.__contains__)
    assert result.metrics["divergence"] == pytest.approx(expected, rel=1e-3)


def test_only_values_change(digits: Graph, given: Recorder) -> None:
    made = worse(digits)
    before = skeleton(made)
    STATED.run(made, given)
    assert skeleton(made) == before
    ir.verify(made)


def test_without_a_budget_nothing_is_done(digits: Graph, given: Recorder) -> None:
    made = worse(digits)
    before = ir.structural_hash(made)
    assert not DistillWeights().run(made, given).modified
    assert ir.structural_hash(made) == before


def test_the_original_has_nothing_to_learn(digits: Graph, given: Recorder) -> None:
    made = digits.copy()
    result = STATED.run(made, given)
    assert not result.modified
    assert "nothing to learn" in result.notes[0]
    assert ir.structural_hash(made) == ir.structural_hash(digits)


def test_it_is_never_worse(digits: Graph, given: Recorder) -> None:
    """A rate at which everything falls apart leaves the model as it was, to the bit."""
    made = worse(digits, share=0.02)
    before = stored(made)
    result = dataclasses.replace(STATED, rate=30.0, steps=16).run(made, given)
    assert not result.modified
    assert stored(made) == before
    assert result.metrics["divergence"] == result.metrics["divergence before"]
    assert "left as it was" in result.notes[0]


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_same_steps_give_the_same_bytes(
    digits: Graph, models: Path, given: Recorder, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", "")  # nothing is taken from an earlier run
    asked = dataclasses.replace(STATED, threads=threads, steps=4)
    found = []
    for _ in range(2):
        given._remembered.clear()
        made = worse(digits)
        asked.run(made, given)
        found.append(stored(made))
    assert found[0] == found[1]


def test_what_is_settled_repeats_the_result(
    digits: Graph, given: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", "")
    first = worse(digits)
    result = DistillWeights(minutes=0.02, batch=8, threads=1).run(first, given)
    assert result.settled["steps"] >= 1
    assert result.settled["minutes"] == 0.0
    assert result.settled["rate"] > 0
    again = worse(digits)
    repeated = DistillWeights(**result.settled).run(again, given)
    assert stored(again) == stored(first)
    assert repeated.settled == result.settled


def test_an_interrupted_training_goes_on(
    digits: Graph, given: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in a step and taken up again, it gives the bytes of one that was left alone."""
    whole = worse(digits)
    STATED.run(whole, given)
    given._remembered.clear()
    other = worse(digits, seed=0)

    calls: list[int] = []
    inner = Trainer.differentiate

    def interrupted(self: Trainer, number: int) -> float:
        calls.append(number)
        if calls == list(range(14)):
            raise KeyboardInterrupt
        return inner(self, number)

    monkeypatch.setattr(Trainer, "differentiate", interrupted)
    monkeypatch.setattr(distillation, "kept_result", lambda _, __, make: make())  # none is kept
    before = stored(other)
    with pytest.raises(KeyboardInterrupt):
        STATED.run(other, given)
    assert stored(other) == before, "nothing is half written"
    STATED.run(other, given)
    assert calls[14:] == list(range(13, 24)), "it went on where it was"
    assert stored(other) == stored(whole)


def test_the_same_training_is_done_once(
    digits: Graph, given: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = worse(digits), worse(digits)
    result = STATED.run(first, given)
    given._remembered.clear()  # another compile
    monkeypatch.setattr(Trainer, "differentiate", None)
    repeated = STATED.run(second, given)
    assert stored(second) == stored(first)
    assert repeated.notes == result.notes


def test_what_torch_cannot_execute_is_named_before_anything_runs() -> None:
    model = graph("strange (float[2, 3] x) => (float[2, 3] y) { y = com.acme.Fold (x) }")
    model.opsets["com.acme"] = 1
    given = context(data={"x": np.ones((4, 2, 3), np.float32)}, model=model)
    with pytest.raises(GraphOptError, match="Fold") as raised:
        STATED.run(model, given)
    assert raised.value.code == "G207"


@pytest.mark.parametrize("options", [{"steps": -1}, {"minutes": float("nan")}, {"rate": -1e-3}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(RecipeError) as raised:
        DistillWeights(**options)  # type: ignore[arg-type]
    assert raised.value.code == "G103"


def test_a_quantized_model_is_trained_as_it_will_run(digits: Graph, models: Path) -> None:
    """QAT: integers and scales change, and onnxruntime's outputs come nearer to the original's."""
    from graphopt.api import compile as compile_model

    data = models / "digits.npz"
    made = compile_model(
        models / "digits_resnet.onnx",
        data=data,
        target="host",
        recipe="integer",
        measure=False,
    )
    model = coarser(ir.from_bytes(made.to_bytes()))
    assert model.nodes("QuantizeLinear")
    with np.load(data) as arrays:
        samples = {n: arrays[n][:120] for n in arrays.files if n == digits.feeds[0].name}
    given = context(data=samples, model=digits)
    before = output_divergence(digits, model, given, lambda _: True)
    result = dataclasses.replace(STATED, steps=32).run(model, given)
    after = output_divergence(digits, model, given, lambda _: True)
    assert result.modified
    assert before is not None
    assert after is not None
    assert after < before
