"""Graphs that are run piece by piece give what one run gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.prune.reconstruct.walk import ROOM, Walk, walks
from graphopt.testing import Recorder, context, graph, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Array = np.ndarray[Any, Any]

NET = """g (float[{n}, 3, 6, 6] x) => (float[{n}, 4] y)
<float[5, 3, 3, 3] w1, float[5, 5, 1, 1] w2, float[5, 4] w3>
{{
    a = Conv <pads=[1, 1, 1, 1]> (x, w1) b = Relu(a)
    c = Conv(b, w2) d = Add(b, c) e = Relu(d)
    p = GlobalAveragePool(e) f = Flatten(p) y = MatMul(f, w3)
}}"""
STEPS = (["a"], ["b", "c"], ["d"], ["f", "b"], ["y"])


class Counting(Recorder):
    """Counts operators that were run, for each sample or batch."""

    operators = 0

    def stream(
        self, graph: ir.Graph, names: Sequence[str], **options: Any
    ) -> Iterator[tuple[int, str, Array]]:
        last = None
        inner = set(names) - {value.name for value in graph.feeds}
        for item in super().stream(graph, names, **options):
            if item[0] != last:
                last = item[0]
                self.operators += len(graph.nodes()) if inner else 0
            yield item


def data(count: int = 70, seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    return random.standard_normal((count, 3, 6, 6)).astype(np.float32)


def counting(model: ir.Graph, values: Mapping[str, Array]) -> Counting:
    plain = context(data=values, model=model)
    return Counting(
        target=plain.target,
        cost=plain.cost,
        dataset=plain.dataset,
        find_observer=plain.find_observer,
    )


def walked(walk: Walk, names: Sequence[str]) -> tuple[list[int], dict[str, Array]]:
    batches = list(walk.tensors(names))
    numbers = [number for batch in batches for number in batch.samples]
    return numbers, {n: np.concatenate([b.tensors[n] for b in batches]) for n in names}


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize("room", [ROOM, 0, 3 * 6 * 6 * 4 * 80])
def test_every_tensor_is_that_of_one_run(batch: str, room: int) -> None:
    model = graph(NET.format(n=batch))
    ir.infer_shapes(model)
    x = data()
    ctx = counting(model, {"x": x})
    (walk,) = walks([(model, ["a", "b", "c", "d", "f", "y"])], ctx, lambda i: i % 3 < 2, room)
    whole = model.copy()
    whole.set_outputs([whole.value(n) for n in "abcdfy"])
    chosen = [i for i in range(len(x)) if i % 3 < 2]
    runs = [run(whole, {"x": x[i : i + 1]}) for i in chosen]
    wanted = dict(zip("abcdfy", map(np.concatenate, zip(*runs, strict=True)), strict=True))
    for names in STEPS:
        numbers, found = walked(walk, names)
        assert numbers == chosen
        for name in names:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-5)


def test_what_was_run_is_not_run_again() -> None:
    model = graph(NET.format(n=1))
    ir.infer_shapes(model)
    counts = {}
    for room in (ROOM, 0):
        ctx = counting(model, {"x": data(10)})
        (walk,) = walks([(model, ["y"])], ctx, lambda _: True, room)
        for names in STEPS:
            walked(walk, names)
        counts[room] = ctx.operators
    # "b" is asked for once more after it is no longer needed: two operators, and the rest once.
    assert counts[ROOM] == 10 * (8 + 2)
    assert counts[0] > 1.5 * counts[ROOM]


def test_weights_may_change_where_nothing_was_run() -> None:
    model = graph(NET.format(n="N"))
    ir.infer_shapes(model)
    (walk,) = walks([(model, ["y"])], counting(model, {"x": data(40)}), lambda _: True)
    walked(walk, ["b"])
    weight = model.value("w2")
    model.set_tensor(weight, ir.Tensor.from_array(weight.array() * np.float32(2)))
    _, found = walked(walk, ["y"])
    np.testing.assert_allclose(found["y"][:1], run(model, {"x": data(40)[:1]})[0], rtol=1e-4)


def test_samples_run_together_where_that_makes_no_difference() -> None:
    batches = {}
    for text in (NET.format(n="N"), NET.format(n="N").replace("Relu(d)", "Softmax <axis=0> (d)")):
        model = graph(text)
        ir.infer_shapes(model)
        (walk,) = walks([(model, ["a", "y"])], counting(model, {"x": data(70)}), lambda _: True)
        batches[text] = [len(batch.samples) for batch in walk.tensors(["a"])]
    together, apart = batches.values()
    assert together == [32, 32, 6]
    assert apart == [1] * 70


def test_without_data_nothing_is_run() -> None:
    model = graph(NET.format(n=1))
    (walk,) = walks([(model, ["y"])], context(), lambda _: True)
    assert list(walk.tensors(["y"])) == []
