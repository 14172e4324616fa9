"""What terms find: formulas in every spelling that algebra allows, and no other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.passes.patterns import Const, Number, Operators, Var, maybe, op, why_not
from graphopt.passes.patterns.search import State
from graphopt.testing import graph

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.patterns import Term

x, y = Var("x"), Var("y")
HALVES = 0.5 * x * (1 + op.Erf(x / math.sqrt(2)))


def model(body: str, *, opset: int = 17, kind: str = "float", shape: str = "2,3") -> Graph:
    text = f"""m ({kind}[{shape}] a, {kind}[{shape}] b, {kind}[{shape}] c) => ({kind}[...] r)
        <{kind} half={{0.5}}, {kind} one={{1}}, {kind} two={{2}}, {kind} three={{3}},
         {kind} minus={{-1}}, {kind} root={{1.4142135}}, {kind} inverse={{0.70710678}},
         {kind}[1] row={{3}}, {kind}[1,1,1] high={{3}}, {kind}[3] vector={{1,2,3}}> {{ {body} }}"""
    made = graph(text.replace("[...]", ""), opset=opset)
    ir.infer_shapes(made)
    return made


def found(pattern: Term, body: str, **options: object) -> dict[str, str] | None:
    """Return what the pattern binds in a graph whose last operator makes `r`; None without."""
    made = model(body, **options)  # type: ignore[arg-type]
    state = next(pattern.find(made.value("r"), State(made)), None)
    return None if state is None else {name: v.name for name, v in state.values.items()}


def reason(pattern: Term, body: str, **options: object) -> str | None:
    made = model(body, **options)  # type: ignore[arg-type]
    node = made.value("r").producer
    assert node is not None
    return why_not(pattern, node)


@pytest.mark.parametrize(
    "body",
    [
        "d=Div(a,root) e=Erf(d) p=Add(e,one) m=Mul(a,p) r=Mul(m,half)",
        "d=Div(a,root) e=Erf(d) p=Add(one,e) m=Mul(half,a) r=Mul(m,p)",
        "d=Mul(a,inverse) e=Erf(d) p=Add(e,one) m=Mul(p,half) r=Mul(a,m)",
        "d=Mul(inverse,a) e=Erf(d) p=Sub(e,minus) m=Mul(p,a) r=Div(m,two)",
        "d=Div(a,root) e=Erf(d) p=Add(e,one) h=Div(a,two) r=Mul(p,h)",
        "d=Div(a,two) f=Mul(d,root) e=Erf(f) p=Add(e,one) h=Div(a,two) r=Mul(p,h)",
    ],
)
def test_a_formula_has_many_spellings(body: str) -> None:
    assert found(HALVES, body) == {"x": "a"}
    assert reason(HALVES, body) is None


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("d=Div(a,two) e=Erf(d) p=Add(e,one) m=Mul(a,p) r=Mul(m,half)", "make 0.5, not 0.70"),
        ("d=Div(a,root) e=Erf(d) p=Add(e,two) m=Mul(a,p) r=Mul(m,half)", "make 2, not 1"),
        ("d=Div(b,root) e=Erf(d) p=Add(e,one) m=Mul(a,p) r=Mul(m,half)", "`x` would be both"),
        ("d=Div(a,root) e=Tanh(d) p=Add(e,one) m=Mul(a,p) r=Mul(m,half)", "Tanh, not by Erf"),
        ("d=Div(root,a) e=Erf(d) p=Add(e,one) m=Mul(a,p) r=Mul(m,half)", "make 1, not 0.70"),
        ("d=Div(a,root) e=Erf(d) p=Add(e,one) r=Mul(a,p)", "make 1, not 0.5"),
    ],
)
def test_another_formula_is_not_found_and_says_why(body: str, why: str) -> None:
    assert found(HALVES, body) is None
    assert why in str(reason(HALVES, body))


def test_somebody_else_reads_what_is_inside() -> None:
    text = "d=Div(a,root) e=Erf(d) p=Add(e,one) m=Mul(a,p) r=Mul(m,half) o=Neg(p)"
    assert reason(HALVES, text) == "`o` reads `p` inside it too"


@pytest.mark.parametrize(
    ("pattern", "body", "wanted"),
    [
        (x + y, "r=Add(a,b)", {"x": "a", "y": "b"}),
        (x * y * op.Exp(x), "e=Exp(b) m=Mul(e,a) r=Mul(b,m)", {"x": "b", "y": "a"}),
        (x - y, "r=Sub(a,b)", {"x": "a", "y": "b"}),
        (x - 3, "r=Sub(a,three)", {"x": "a"}),
        (x - 3, "r=Add(three,a)", None),
        (3 - x, "r=Sub(three,a)", {"x": "a"}),
        (3 - x, "n=Neg(a) r=Add(n,three)", {"x": "a"}),
        (-x, "r=Neg(a)", {"x": "a"}),
        (-x, "r=Mul(a,minus)", {"x": "a"}),
        (1 / x, "r=Reciprocal(a)", {"x": "a"}),
        (1 / x, "r=Div(one,a)", {"x": "a"}),
        (x / y, "r=Div(a,b)", {"x": "a", "y": "b"}),
        (x**2, "r=Mul(a,a)", {"x": "a"}),
        (x**2, "r=Mul(a,b)", None),
        (x**3, "r=Pow(a,three)", {"x": "a"}),
        (x**3, "s=Mul(a,a) r=Mul(a,s)", {"x": "a"}),
        (x**3, "s=Pow(a,two) r=Mul(a,s)", {"x": "a"}),
        (2 * x**3, "d=Mul(a,two) s=Mul(d,a) r=Mul(s,a)", {"x": "a"}),
        (x**-1.5, "r=Pow(a,three)", None),
        (3 * x, "r=Mul(row,a)", {"x": "a"}),
        (3 * x, "r=Mul(high,a)", None),
        (x * 1.5, "d=Mul(a,three) r=Div(d,two)", {"x": "a"}),
        (x + 6, "s=Add(a,three) r=Add(three,s)", {"x": "a"}),
        (op.Relu(maybe(x + Const("k"))), "r=Relu(a)", {"x": "a"}),
        (op.Relu(maybe(x + Const("k"))), "s=Add(vector,a) r=Relu(s)", {"x": "a", "k": "vector"}),
        (op.Relu(maybe(op.Identity(x))), "s=Identity(a) r=Relu(s)", {"x": "a"}),
        (op.Exp(x) | op.Neg(x), "r=Neg(a)", {"x": "a"}),
        (op.Max(op.Exp(x), y), "e=Exp(a) r=Max(b,e)", {"x": "a", "y": "b"}),
        (op.Sub(op.Exp(x), y), "e=Exp(a) r=Sub(b,e)", None),
        (op.Clip(x, 0, None), "r=Clip(a,one)", None),
        (op.Clip(x, 1, None), "r=Clip(a,one)", {"x": "a"}),
        (op.Clip(x, 1), "r=Clip(a,one,two)", None),
        (op.Clip(x, 1, Number("k") | None), "r=Clip(a,one)", {"x": "a"}),
        (op.Clip(x, 1, Number("k") | None), "r=Clip(a,one,two)", {"x": "a", "k": "two"}),
        (op.Clip(x, ...), "r=Clip(a,one,two)", {"x": "a"}),
        (Number("k") * x, "r=Mul(a,three)", {"k": "three", "x": "a"}),
        (Number("k") * x, "r=Mul(a,vector)", None),
        (Const("k") * x, "r=Mul(a,vector)", {"k": "vector", "x": "a"}),
        (Const("k", lambda v: v.array().min() > 1) * x, "r=Mul(a,vector)", None),
        (op.Exp(x).named("e") * op.Exp(x).named("e"), "e=Exp(a) r=Mul(e,e)", {"x": "a", "e": "e"}),
        (op.Exp(x).named("e") * op.Exp(x).named("e"), "e=Exp(a) f=Exp(a) r=Mul(e,f)", None),
        (op.Exp(Var()) * op.Exp(Var()), "e=Exp(a) f=Exp(b) r=Mul(e,f)", {}),
        (op.Gather(x, [1, 2, 3]), "i=Constant<value_ints=[1,2,3]>() r=Gather(a,i)", {"x": "a"}),
        (op.Gather(x, [1, 2]), "i=Constant<value_ints=[1,2,3]>() r=Gather(a,i)", None),
    ],
)  # fmt: skip
def test_terms(pattern: Term, body: str, wanted: dict[str, str] | None) -> None:
    assert found(pattern, body) == wanted
    assert (reason(pattern, body) is None) == (wanted is not None)


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        (op.Softmax(x, axis=1), True),
        (op.Softmax(x, axis=-1), False),
        (op.Softmax(x, axis={-1, 1}), True),
        (op.Softmax(x, axis=lambda axis: axis > 0), True),
        (op.Softmax(x), False),
        (op.Softmax(x, ...), True),
        (op.Softmax(x, axis=1, beta=None), True),
        (op.Softmax(x, axis=1, beta={2, None}), True),
        (op.Softmax(x, axis=1, beta=2), False),
        (Operators("com.microsoft").Softmax(x, ...), False),
    ],
)
def test_attributes_are_all_accounted_for(pattern: Term, fits: bool) -> None:
    assert (found(pattern, "r=Softmax<axis=1>(a)") is not None) is fits


def test_real_attributes_are_near() -> None:
    assert found(op.Elu(x, alpha=0.1), "r=Elu<alpha=0.1>(a)") == {"x": "a"}
    assert found(op.Elu(x, alpha=0.11), "r=Elu<alpha=0.1>(a)") is None


def test_division_of_integers_is_no_product() -> None:
    text = """m (int64[2] a) => (int64[2] r) <int64 two={2}> { r = Div(a, two) }"""
    made = graph(text)
    assert not list((x * 0.5).find(made.value("r"), State(made)))
    assert list(op.Div(x, 2).find(made.value("r"), State(made)))


def test_numbers_of_unknown_company_are_left_alone() -> None:
    """Without a rank, a constant of shape [1] may be what gives the result its axis."""
    text = "m (float a) => (float[1] r) <float[1] two={2}> { r = Mul(a, two) }"
    made = graph(text)
    assert not list((2 * x).find(made.value("r"), State(made)))


def test_float16_numbers_are_as_near_as_they_can_be() -> None:
    text = "m (float16[2] a) => (float16[2] r) <float16 k> { r = Mul(a, k) }"
    near, far = (graph(text, k=np.float16(k)) for k in (0.70703125, 0.70751953125))
    assert list((x / math.sqrt(2)).find(near.value("r"), State(near)))
    assert not list((x / math.sqrt(2)).find(far.value("r"), State(far)))


def test_old_broadcasting_is_left_alone() -> None:
    text = """<ir_version: 3, opset_import: ["" : 6]>
        m (float[2,3] a, float[2] b) => (float[2,3] r) { r = Mul<axis=0, broadcast=1>(a, b) }"""
    made = ir.parse(text)
    assert not list((x * y).find(made.value("r"), State(made)))


@given(st.permutations(range(4)), st.lists(st.booleans(), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_products_are_found_in_every_order_and_grouping(order: list[int], left: list[bool]) -> None:
    """Four factors, one of them a number, multiplied in a random tree."""
    stack, lines = [["a", "e", "b", "half"][i] for i in order], ["e=Exp(c)"]
    for step, first in enumerate(left):
        one, other = stack.pop(0), stack.pop(0)
        name = "r" if step == 2 else f"t{step}"
        lines.append(f"{name}=Mul({one},{other})")
        stack.insert(0 if first else len(stack), name)
    names = found(0.5 * x * y * op.Exp(Var("z")), " ".join(lines))
    assert names is not None
    assert names["z"] == "c"
    assert {names["x"], names["y"]} == {"a", "b"}


def test_a_term_takes_arrays_on_either_side() -> None:
    scale = np.array([1.0, 2.0, 3.0], np.float32)
    for pattern in (x * scale, scale * x):
        assert found(pattern, "r=Mul(vector,a)") == {"x": "a"}
    assert found(x * scale[:2], "r=Mul(vector,a)") is None
