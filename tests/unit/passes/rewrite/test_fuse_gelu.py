"""Gelu in every spelling becomes one operator, or one kernel of onnxruntime."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.rewrite.fuse_gelu import FuseGelu
from graphopt.runtime import census
from graphopt.testing import assert_same_outputs, context, graph, run

if TYPE_CHECKING:
    from graphopt.ir import Graph

TOLERANCE = 2e-6
"""Relative and absolute: roundings of float32 in another order, and other polynomials for erf."""

CONSTANTS = """<{kind} one={{1}}, {kind} two={{2}}, {kind} three={{3}}, {kind} half={{0.5}},
    {kind} root={{1.4142135}}, {kind} inverse={{0.70710677}}, {kind} cubic={{0.044715}},
    {kind} slope={{0.7978846}}, {kind} steep={{1.5957691}}>"""
ARGUMENTS = ("u = Div(x, root)", "u = Mul(x, inverse)", "u = Mul(inverse, x)")
SUMS = ("p = Add(e, one)", "p = Add(one, e)")
PRODUCTS = (
    "m = Mul(x, p) g = Mul(m, half)",
    "m = Mul(p, x) g = Mul(half, m)",
    "m = Mul(x, half) g = Mul(m, p)",
    "m = Mul(half, p) g = Mul(x, m)",
    "m = Mul(p, half) g = Mul(m, x)",
    "m = Mul(x, p) g = Div(m, two)",
    "m = Div(x, two) g = Mul(p, m)",
)
BY_ERF = [
    f"{argument} e = Erf(u) {total} {factors}"
    for argument, total, factors in product(ARGUMENTS, SUMS, PRODUCTS)
]
CUBES = ("c = Pow(x, three)", "s = Mul(x, x) c = Mul(s, x)", "s = Pow(x, two) c = Mul(x, s)")
INNER = [
    *(f"{cube} d = Mul(c, cubic) i = Add(x, d) u = Mul(i, slope)" for cube in CUBES),
    "s = Mul(x, x) d = Mul(cubic, s) c = Mul(d, x) i = Add(c, x) u = Mul(slope, i)",
    "k = Mul(x, slope) d = Mul(cubic, x) s = Mul(d, x) i = Add(one, s) u = Mul(k, i)",
    "s = Pow(x, two) d = Mul(s, cubic) i = Add(d, one) k = Mul(x, slope) u = Mul(i, k)",
]
BY_TANH = [
    f"{inner} e = Tanh(u) {total} {factors}"
    for inner, total, factors in product(INNER, SUMS[:1], PRODUCTS)
]
BY_SIGMOID = [f"{i.replace('slope', 'steep')} e = Sigmoid(u) g = Mul(x, e)" for i in INNER]


def model(body: str, *, opset: int, kind: str = "float", more: str = "") -> Graph:
    text = f"""m ({kind}[N, 4] x) => ({kind}[N, 4] y{more})
        {CONSTANTS.format(kind=kind)} {{ {body} y = Abs(g) }}"""
    return graph(text, opset=opset)


def fused(before: Graph) -> tuple[Graph, dict[str, str]]:
    after, noted = before.copy(), context()
    assert FuseGelu().run(after, noted).modified
    ir.verify(after)
    values = np.array([[0, -0.5, 1, 3], [-3, 8, -8, 1e-3], [1e4, -1e4, 40, -40]], np.float32)
    assert_same_outputs(before, after, [{"x": values}], rtol=TOLERANCE, atol=TOLERANCE)
    assert not FuseGelu().run(after, context()).modified
    return after, noted.reasons


def kernels(found: Graph) -> list[str]:
    return sorted(k.rpartition(".")[2] for k in census(found).kernels)


@pytest.mark.parametrize("body", BY_ERF)
def test_every_spelling_by_erf_is_one_operator(body: str) -> None:
    after, reasons = fused(model(body, opset=20))
    assert [n.op for n in after.nodes()] == ["Gelu", "Abs"]
    assert reasons == {"g": "Gelu, spelled out"}


@pytest.mark.parametrize("body", [*BY_TANH, *BY_SIGMOID])
def test_every_spelling_by_tanh_is_one_operator(body: str) -> None:
    after, _ = fused(model(body, opset=20))
    assert [n.op for n in after.nodes()] == ["Gelu", "Abs"]
    assert after.nodes()[0].attribute("approximate") == "tanh"


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("body", [*BY_ERF[::4], *BY_TANH[::6], *BY_SIGMOID[::2]])
def test_in_older_sets_onnxruntime_makes_one_kernel_of_each(body: str, opset: int) -> None:
    before = model(body, opset=opset)
    after, noted = before.copy(), context()
    modified = FuseGelu().run(after, noted).modified
    assert kernels(after) == ["Abs", "FastGelu" if "Erf" not in body else "Gelu"]
    if modified:
        fused(before)
    else:
        assert kernels(before) == kernels(after)
        assert "recognise this Gelu" in noted.reasons["g"]


def test_a_bias_still_becomes_part_of_the_kernel() -> None:
    text = """m (float[N, 4] x) => (float[N, 4] y) <float[4] b, float one={1}, float half={0.5},
        float root={1.4142135}> { a = Add(x, b) u = Div(a, root) e = Erf(u) p = Add(e, one)
        m = Mul(a, p) g = Mul(m, half) y = Abs(g) }"""
    after = graph(text, opset=20)
    assert FuseGelu().run(after, context()).modified
    assert [n.op for n in after.nodes()] == ["Add", "Gelu", "Abs"]
    assert kernels(after) == ["Abs", "BiasGelu"]


@pytest.mark.parametrize("body", [BY_ERF[1], BY_TANH[0]])
def test_no_fused_kernel_is_lost(body: str) -> None:
    for opset in (17, 20):
        before = model(body, opset=opset)
        after = before.copy()
        FuseGelu().run(after, context())
        assert census(before).lost(census(after)) == {}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Erf(u)", "Tanh(u)", None),
        ("root", "two", None),
        ("Mul(m, half)", "Mul(m, two)", None),
        ("p = Add(e, one)", "p = Add(e, two)", None),
        ("g = Mul(m, half)", "g = Mul(m, half) z = Neg(e)", "`z` reads `e` inside it too"),
    ],
)
def test_what_is_no_gelu_stays(old: str, new: str, reason: str | None) -> None:
    more = ", float[N, 4] z" if "z =" in new else ""
    before = model(BY_ERF[0].replace(old, new), opset=20, more=more)
    after, noted = before.copy(), context()
    assert not FuseGelu().run(after, noted).modified
    assert noted.reasons == ({"g": reason} if reason else {})


@pytest.mark.parametrize("kind", ["double", "float16"])
def test_other_types_stay(kind: str) -> None:
    noted = context()
    text = (
        f"m ({kind}[4] x) => ({kind}[4] g) <{kind} one, {kind} half, {kind} root> {{ {BY_ERF[0]} }}"
    )
    held = {"one": 1.0, "half": 0.5, "root": 2**0.5}
    dtype = np.dtype(kind)
    made = graph(text, opset=20, **{name: dtype.type(value) for name, value in held.items()})
    assert not FuseGelu().run(made, noted).modified
    assert noted.reasons == {"g": "Gelu is written as one operator in float32 only"}


def test_a_half_with_more_axes_stays() -> None:
    """The result has an axis that x does not have."""
    text = """m (float[4] x) => (float[1, 4] g) <float one={1}, float root={1.4142135},
        float[1, 1] half={0.5}> { u = Div(x, root) e = Erf(u) p = Add(e, one) m = Mul(x, p)
        g = Mul(m, half) }"""
    assert not FuseGelu().run(graph(text, opset=20), context()).modified


def test_no_elements_are_no_problem() -> None:
    before = model(BY_ERF[0], opset=20)
    after, _ = fused(before)
    assert run(after, {"x": np.zeros((0, 4), np.float32)})[0].shape == (0, 4)
