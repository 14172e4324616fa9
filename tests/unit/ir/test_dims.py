"""Sizes with symbols: equal sizes have one text, and arithmetic on them is that of numbers."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphopt.ir import dims as d
from graphopt.ir.bindings import evaluate, substitute, symbols_of
from graphopt.ir.formula import evaluate_text

N, T, P = (d.symbol(name) for name in ("n", "t", "past"))


def _text(dim: d.Dim | None) -> int | str:
    assert dim is not None
    return d.show(dim)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (d.add(d.multiply(2, T), 0), "2*t"),
        (d.add(T, P), "past+t"),
        (d.add(P, T), "past+t"),
        (d.subtract(T, 1), "t-1"),
        (d.subtract(d.add(T, P), T), "past"),
        (d.subtract(3, T), "-t+3"),
        (d.multiply(d.multiply(N, T), 64), "64*n*t"),
        (d.exact_quotient(d.multiply(d.add(T, P), 768), d.add(P, T)), 768),
        (d.exact_quotient(d.product([N, T, 768]), d.product([N, 12])), "64*t"),
        (d.floor_divide(d.add(d.floor_divide(d.subtract(T, 1), 2) or 0, 1), 2), "(t+1)//4"),
        (d.floor_divide(d.multiply(4, T), 2), "2*t"),
        (d.floor_divide(d.add(d.multiply(2, T), 1), 2), "t"),
        (d.multiply(2, d.floor_divide(T, 2) or 0), "2*(t//2)"),
        (d.floor_divide(T, P), "t//past"),
        (d.smaller(T, 512), "min(t,512)"),
        (d.smaller(d.add(T, 4), T), "t"),
        (d.larger(T, 0), "t"),
        (d.larger(d.subtract(T, 4), 0), "max(t-4,0)"),
        (d.broadcast(T, 1), "t"),
        (d.broadcast(T, 5), 5),
        (d.broadcast(d.smaller(T, 9), T), "t"),
        (d.broadcast(T, N), "broadcast(n,t)"),
        (d.broadcast(N, T), "broadcast(n,t)"),
        (d.add(d.symbol("past + 1"), T), "t+{past + 1}"),
        (d.symbol("past + 1"), "past + 1"),
    ],
)
def test_equal_sizes_have_one_text(made: d.Dim | None, text: int | str) -> None:
    assert _text(made) == text


def test_a_text_that_a_symbol_has_gets_parentheses() -> None:
    assert d.show(d.multiply(2, T), {"2*t"}) == "(2*t)"
    assert d.show(d.symbol("2*t"), {"2*t"}) == "2*t"
    assert d.symbol("2*t") != d.multiply(2, T)


def test_what_may_be_negative_or_zero_is_not_assumed_to_be_more() -> None:
    assert d.least(d.subtract(T, 1)) == -1
    assert d.least(d.subtract(P, T)) is None
    assert not d.is_at_least(T, 1)
    assert d.is_at_least(d.symbol("b", 1), 1)
    assert d.least(d.symbol("~v", None)) is None
    assert d.floor_divide(5, 0) is None
    assert d.floor_divide(T, d.symbol("~v", None)) is None


_SIZES = st.fixed_dictionaries({"n": st.integers(0, 9), "t": st.integers(0, 9)})


@st.composite
def _expressions(draw: st.DrawFn, depth: int = 2) -> tuple[d.Dim, str]:
    """Return a size and the Python expression of it."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        number = draw(st.integers(-4, 9))
        return draw(st.sampled_from([(N, "n"), (T, "t"), (number, f"({number})")]))
    one, left = draw(_expressions(depth - 1))
    other, right = draw(_expressions(depth - 1))
    kind = draw(st.sampled_from(["+", "-", "*", "min", "max", "//"]))
    if kind == "//":
        by = draw(st.integers(1, 5))
        made = d.floor_divide(one, by)
        assert made is not None
        return made, f"({left} // {by})"
    if kind in {"min", "max"}:
        rule = d.smaller if kind == "min" else d.larger
        return rule(one, other), f"{kind}({left}, {right})"
    rules = {"+": d.add, "-": d.subtract, "*": d.multiply}
    return rules[kind](one, other), f"({left} {kind} {right})"


@settings(max_examples=60, deadline=None)
@given(made=_expressions(), sizes=_SIZES)
def test_arithmetic_is_that_of_numbers(made: tuple[d.Dim, str], sizes: dict[str, int]) -> None:
    dim, text = made
    wanted = eval(text, {"min": min, "max": max}, dict(sizes))
    assert evaluate(dim, sizes) == wanted
    bottom = d.least(dim)
    assert bottom is None or bottom <= wanted
    part = substitute(dim, {"n": sizes["n"]})
    assert symbols_of(part) <= {"t"}
    assert evaluate(part, sizes) == wanted


@settings(max_examples=60, deadline=None)
@given(one=_expressions(), other=_expressions(), sizes=_SIZES)
def test_quotients_that_are_exact_are(
    one: tuple[d.Dim, str], other: tuple[d.Dim, str], sizes: dict[str, int]
) -> None:
    product = d.multiply(one[0], other[0])
    divisor = evaluate(other[0], sizes)
    assume(divisor)
    found = d.exact_quotient(product, other[0])
    if found is not None:
        assert evaluate(found, sizes) == evaluate(one[0], sizes)


def test_formulas_of_exporters_are_evaluated() -> None:
    assert evaluate_text("past + 1", {"past": 3}) == 4
    assert evaluate_text("2*(s0 + s1)//3", {"s0": 2, "s1": 4}) == 4
    for text in ("past + 1", "f(past)", "past +", "past - 9", "past // 0", "'a'", "True"):
        assert evaluate_text(text, {"past": 3} if "+ 1" not in text else {}) is None
