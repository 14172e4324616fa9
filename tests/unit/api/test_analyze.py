"""Analyze finds the operator that loses accuracy, on a model in which one was poisoned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import graphopt
from graphopt import ir
from graphopt.errors import DataError, ModelError
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.recipe import PassEntry, Recipe
from graphopt.testing import context, graph, run

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph

WEIGHTS = ", ".join(f"float[16, 16, 3, 3] w{i}" for i in range(5))
TEXT = f"""m (float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] y) <{WEIGHTS}> {{
  [c0] a = Conv <pads = [1, 1, 1, 1]> (x, w0)   ar = Relu (a)
  [c1] b = Conv <pads = [1, 1, 1, 1]> (ar, w1)  br = Relu (b)
  [c2] c = Conv <pads = [1, 1, 1, 1]> (br, w2)  cr = Relu (c)
  [c3] d = Conv <pads = [1, 1, 1, 1]> (cr, w3)  dr = Relu (d)
  [c4] y = Conv <pads = [1, 1, 1, 1]> (dr, w4) }}"""


PLAIN = Recipe(passes=(PassEntry("calibrate"), PassEntry("insert-qdq")))
"""Without the passes that would cure what the model suffers from."""
INTEGER = Recipe(passes=(PassEntry("calibrate"), PassEntry("insert-qdq", {"placement": "integer"})))


def poisoned(outlier: float = 60.0) -> Graph:
    """One huge weight in channel 3 of c1, which c2 hardly reads; without it, an easy model."""
    random = np.random.default_rng(1)
    weights = {f"w{i}": random.normal(size=(16, 16, 3, 3)) * 0.1 for i in range(5)}
    if outlier:
        weights["w1"][3, 0, 0, 0] = outlier
        weights["w2"][:, 3] *= 0.1 / outlier
    return graph(TEXT, **{k: v.astype(np.float32) for k, v in weights.items()})


def samples(count: int = 32) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(count, 16, 8, 8)).astype(np.float32)}


def test_the_poisoned_layer_comes_first_with_its_reason() -> None:
    result = graphopt.analyze(poisoned(), data=samples(), target="x86-avx512-vnni", recipe=PLAIN)
    worst = result.layers[0]
    assert worst.node == "c1"
    assert worst.why.startswith("a weight of magnitude 60 is an outlier")
    assert worst.isolated_channel_db is not None
    assert worst.isolated_channel_db < 10
    assert worst.facts["weight_outlier_ratio"] > 50
    healthy = graphopt.analyze(poisoned(0), data=samples(), target="x86-avx512-vnni", recipe=PLAIN)
    assert min(n.worst_db for n in healthy.layers) > 25
    assert healthy.outputs["y"] > result.outputs["y"] + 15
    assert [*map(len, (result.layers, result.floats))] == [5, 0]


def test_isolated_and_cumulative_are_what_running_by_hand_gives() -> None:
    model = poisoned(0)
    feeds = [{"x": samples()["x"][i : i + 1]} for i in range(4)]
    quantized = model.copy()
    InsertQdq(placement="integer").run(quantized, context(data=feeds, model=model))
    result = graphopt.analyze(quantized, reference=model, data=feeds, samples=4)
    found = {layer.node: layer for layer in result.layers}
    only = model.copy()
    InsertQdq(placement="integer", only=("c4",)).run(only, context(data=feeds, model=model))
    for other, measured in ((only, "isolated_db"), (quantized, "cumulative_db")):
        signal = noise = 0.0
        for feed in feeds:
            wanted, got = run(model, feed)[0], run(other, feed)[0]
            signal += float((wanted**2).sum())
            noise += float(((wanted - got) ** 2).sum())
        wanted_db = 10 * np.log10(signal / noise)
        assert getattr(found["c4"], measured) == pytest.approx(wanted_db, abs=0.05)


def test_isolated_noise_of_the_first_layer_is_its_cumulative_noise() -> None:
    result = graphopt.analyze(poisoned(0), data=samples(8), samples=8, recipe=PLAIN)
    first = next(layer for layer in result.layers if layer.node == "c0")
    assert first.isolated_db == pytest.approx(first.cumulative_db, abs=0.05)
    assert result.samples == 6  # two of the eight are held out


def test_a_model_that_is_quantized_already_needs_its_original(tmp_path: Path) -> None:
    model = poisoned(0)
    ir.save(model, tmp_path / "float.onnx")
    compiled = graphopt.compile(model, data=samples(), recipe=INTEGER, measure=False)
    with pytest.raises(ModelError, match="quantized already") as caught:
        graphopt.analyze(compiled.graph, data=samples())
    assert caught.value.code == "G217"
    assert "--reference" in (caught.value.hint or "")
    result = graphopt.analyze(
        compiled.graph, reference=tmp_path / "float.onnx", data=samples(), target="arm"
    )
    assert {layer.node for layer in result.layers} >= {"c0", "c1", "c2", "c3", "c4"}
    assert all(layer.isolated_db is not None for layer in result.layers)


def test_what_cannot_be_analysed_is_an_error_with_a_hint() -> None:
    with pytest.raises(DataError, match="no data was given") as no_data:
        graphopt.analyze(poisoned(), data=None)
    assert no_data.value.hint
    other = graph("m (float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] z) { z = Relu (x) }")
    with pytest.raises(ModelError, match="nothing in the model was quantized"):
        graphopt.analyze(other, data=samples())
    with pytest.raises(ModelError, match="could be matched"):
        graphopt.analyze(other, reference=poisoned(), data=samples())


def test_the_same_data_in_another_order_gives_the_same_ratios() -> None:
    feeds = [{"x": samples()["x"][i : i + 1]} for i in range(4)]
    model = poisoned(0)
    quantized = model.copy()
    InsertQdq(placement="integer").run(quantized, context(data=feeds, model=model))
    one, other = (
        graphopt.analyze(quantized, reference=model, data=f) for f in (feeds, feeds[::-1])
    )
    for a, b in zip(one.layers, other.layers, strict=True):
        assert a.node == b.node
        assert a.isolated_db == pytest.approx(b.isolated_db, abs=1e-9)
