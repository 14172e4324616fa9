"""Operators that are written as others compute what they computed, in integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.passes.quantize.qdq.lower import scale_factor
from graphopt.runtime import census, open_session
from graphopt.testing import context, graph, named_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph

TARGETS = ("x86-avx512-vnni", "arm64-dotprod")
LOW, HIGH = -5.0, 5.0
INPUT_STEP = (HIGH - LOW) / 254
"""One integer step of the values, a little more than either type has."""


def lowered(body: str, target: str, ranges: dict[str, tuple[float, float]]) -> Graph:
    """Return ``body`` (reads ``a``, returns ``c``) between two identity convolutions, quantized."""
    text = f"""m (float[1,1,1,N] x) => (float[1,1,1,N] y)
        <float[1,1,1,1] w1={{1.0}}, float[1,1,1,1] w2={{1.0}}, float k={{0.5}}> {{
      a = Conv(x, w1)
      {body}
      y = Conv(c, w2) }}"""
    model = graph(text)
    given = {"x": (LOW, HIGH), "a": (LOW, HIGH), "y": (-8.0, 8.0), **ranges}
    InsertQdq(placement="integer", align=False).run(model, context(target=target, ranges=given))
    model.sort()
    return model


def outputs(model: Graph, target: str, values: Any) -> Any:
    session = open_session(model, target=named_target(target))
    return session.run({"x": values.reshape(1, 1, 1, -1)})[0].reshape(-1)


CASES: dict[str, tuple[str, Callable[[Any], Any], float, float]] = {
    # name: (operators, function, steepest slope, step of the output)
    "HardSigmoid": (
        "c = HardSigmoid<alpha=0.16666667,beta=0.5>(a)",
        lambda x: np.clip(x / 6 + 0.5, 0, 1),
        1 / 6,
        1 / 255,
    ),
    "HardSigmoid by default": (
        "c = HardSigmoid(a)",
        lambda x: np.clip(0.2 * x + 0.5, 0, 1),
        0.2,
        1 / 255,
    ),
    "HardSigmoid with a negative offset": (
        "c = HardSigmoid<alpha=0.5,beta=-0.25>(a)",
        lambda x: np.clip(0.5 * x - 0.25, 0, 1),
        0.5,
        1 / 255,
    ),
    "HardSigmoid without offset": (
        "c = HardSigmoid<alpha=0.5,beta=0.0>(a)",
        lambda x: np.clip(0.5 * x, 0, 1),
        0.5,
        1 / 255,
    ),
    "Tanh": ("c = Tanh(a)", np.tanh, 1.0, 1 / 128),
    "Mul by a number": ("c = Mul(a, k)", lambda x: 0.5 * x, 0.5, 0.5 * INPUT_STEP),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_the_error_is_that_of_rounding(name: str, target: str) -> None:
    body, function, slope, step = CASES[name]
    model = lowered(body, target, {"c": (-8.0, 8.0)})
    values = np.linspace(LOW, HIGH, 501, dtype=np.float32)
    error = np.abs(outputs(model, target, values) - function(values))
    # Half a step where x, a and c are rounded, and one more of c, and half a step of y.
    bound = slope * 1.5 * INPUT_STEP + 1.5 * step + 8.0 / 127
    assert error.max() < bound


@pytest.mark.parametrize("target", TARGETS)
def test_lowered_operators_in_a_row_keep_their_parameters_apart(target: str) -> None:
    body = "b = Tanh(a)\n d = HardSigmoid(b)\n e = Mul(d, k)\n c = Mul(b, e)"
    model = lowered(body, target, dict.fromkeys("bdec", (-0.6, 1.0)))
    kernels = census(model, named_target(target)).kernels
    assert not {"Tanh", "HardSigmoid", "Mul"} & kernels.keys()
    values = np.linspace(LOW, HIGH, 301, dtype=np.float32)
    tanh = np.tanh(values)
    wanted = tanh * 0.5 * np.clip(0.2 * tanh + 0.5, 0, 1)
    # y spans 16 in 255 steps; the others are finer.
    assert np.abs(outputs(model, target, values) - wanted).max() < 0.1


def test_the_product_may_be_returned_as_well() -> None:
    text = """m (float[1,1,1,N] x) => (float[1,1,1,N] y, float[1,1,1,N] c)
        <float[1,1,1,1] w1={1.0}, float[1,1,1,1] w2={1.0}, float k={0.5}> {
      a = Conv(x, w1)
      c = Mul(a, k)
      y = Conv(c, w2) }"""
    model = graph(text)
    ranges = {"x": (LOW, HIGH), "a": (LOW, HIGH), "c": (LOW / 2, HIGH / 2), "y": (LOW, HIGH)}
    InsertQdq(placement="integer", align=False).run(model, context(ranges=ranges))
    model.sort()
    assert "Mul" not in {n.op for n in model.nodes()}
    values = np.linspace(LOW, HIGH, 101, dtype=np.float32).reshape(1, 1, 1, -1)
    found = open_session(model).run({"x": values})[1]
    np.testing.assert_allclose(found, values / 2, atol=INPUT_STEP, rtol=0)


@pytest.mark.parametrize(
    ("constant", "factor"),
    [
        ("float k={2.0}", 2.0),
        ("float[1] k={2.0}", 2.0),
        ("float k={-2.0}", None),
        ("float k={0.0}", None),
        ("float[2] k={2.0,2.0}", None),
        ("float[1,1,1] k={2.0}", None),
    ],
)
def test_only_positive_numbers_scale(constant: str, factor: float | None) -> None:
    model = graph(f"m (float[N,2] x) => (float[A,B] y) <{constant}> {{ y = Mul(k, x) }}")
    assert scale_factor(model.nodes("Mul")[0]) == factor
