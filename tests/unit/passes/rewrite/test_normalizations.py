"""LayerNormalization and RMSNormalization: spellings, constants, and what is left alone."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.rewrite.fuse_layer_norm import FuseLayerNorm
from graphopt.passes.rewrite.fuse_rms_norm import FuseRmsNorm
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

_TOLERANCE = 1e-5

_ROOT = """mean = ReduceMean <axes = [-1]> (x)
  d = Sub (x, mean)
  square = Mul (d, d)
  variance = ReduceMean <axes = [-1]> (square)
  more = Add (variance, epsilon)
  root = Sqrt (more)"""
_CENTRED = """n = Div (d, root)
  s = Mul (n, scale)
  y = Add (s, shift)"""
_RATIO = """inverse = Reciprocal (root)
  ratio = Mul (inverse, scale)
  wide = Mul (x, ratio)
  moved = Mul (mean, ratio)
  rest = Sub (shift, moved)
  y = Add (wide, rest)"""


def _model(root: str = _ROOT, rest: str = _CENTRED, *, opset: int = 17, **numbers: str) -> ir.Graph:
    given = {
        "epsilon": "float epsilon = {1e-5}",
        "scale": "float[4] scale = {1.0, 0.5, -2.0, 3.0}",
        "shift": "float[4] shift = {0.5, 0.0, -1.0, 2.0}",
    } | numbers
    constants = ", ".join(given.values())
    return graph(
        f"m (float[N, T, 4] x) => (float[N, T, 4] y)\n"
        f"<{constants}, float two = {{2.0}}, float half = {{-0.5}}, float one = {{1.0}}> {{\n"
        f"  {root}\n  {rest}\n}}",
        opset=opset,
    )


def _fused(before: ir.Graph, step: Any, op: str, count: int = 1) -> ir.Graph:
    after = before.copy()
    assert step.run(after, context()).metrics == {"fused": count}
    ir.verify(after)
    assert [n.op for n in after.nodes()] == [op] * count
    feeds = random_feeds(before, count=2, size=3)
    feeds.append({"x": feeds[0]["x"] * np.float32(10) + np.float32(50)})
    assert_same_outputs(before, after, feeds, rtol=1e-3, atol=1e-4)
    assert_same_outputs(before, after, feeds[:2], rtol=_TOLERANCE, atol=_TOLERANCE)
    return after


LAYER_NORMS: dict[str, dict[str, str]] = {
    "a product with itself": {},
    "a power of two": {"root": _ROOT.replace("Mul (d, d)", "Pow (d, two)")},
    "two differences": {"root": f"{_ROOT}\n  e = Sub (x, mean)",
                        "rest": _CENTRED.replace("(d, root)", "(e, root)")},
    "a reciprocal": {"rest": _CENTRED.replace("Div (d, root)", "Mul (d, inverse)"),
                     "root": f"{_ROOT}\n  inverse = Reciprocal (root)"},
    "one over the root": {"rest": _CENTRED.replace("Div (d, root)", "Mul (inverse, d)"),
                          "root": f"{_ROOT}\n  inverse = Div (one, root)"},
    "a power of minus a half": {"rest": _CENTRED.replace("Div (d, root)", "Mul (d, inverse)"),
                                "root": _ROOT.replace("root = Sqrt (more)",
                                                      "inverse = Pow (more, half)")},
    "tensorflow's": {"rest": _RATIO},
    "tensorflow's without a scale": {
        "rest": _RATIO.replace("ratio = Mul (inverse, scale)", "ratio = Identity (inverse)")
        .replace("ratio = Identity (inverse)\n  ", "").replace("ratio", "inverse")},
    "no shift": {"rest": "n = Div (d, root)\n  y = Mul (n, scale)"},
    "no scale": {"rest": "n = Div (d, root)\n  y = Add (n, shift)"},
    "neither": {"rest": "y = Div (d, root)"},
    "constants of more axes": {"scale": "float[1, 1, 4] scale = {1.0, 0.5, -2.0, 3.0}",
                               "shift": "float[1, 4] shift = {0.5, 0.0, -1.0, 2.0}"},
    "constants of one element": {"scale": "float[1] scale = {2.0}", "shift": "float shift = {0.5}"},
}  # fmt: skip


@pytest.mark.parametrize("spelling", LAYER_NORMS.values(), ids=LAYER_NORMS)
def test_layer_normalizations(spelling: dict[str, str]) -> None:
    _fused(_model(**spelling), FuseLayerNorm(), "LayerNormalization")


def test_averages_over_several_last_axes() -> None:
    before = graph("""m (float[N, 3, 4] x) => (float[N, 3, 4] y)
      <float epsilon = {1e-5}, float[3, 4] scale, float[3, 4] shift> {
      mean = ReduceMean <axes = [1, 2]> (x)
      d = Sub (x, mean)
      square = Mul (d, d)
      variance = ReduceMean <axes = [-2, -1]> (square)
      more = Add (variance, epsilon)
      root = Sqrt (more)
      n = Div (d, root)
      s = Mul (n, scale)
      y = Add (s, shift)
    }""")
    after = _fused(before, FuseLayerNorm(), "LayerNormalization")
    assert after.nodes()[0].attribute("axis") == -2


def test_one_normalization_after_another() -> None:
    names = r"\b(mean|d|square|variance|more|root|n|s)\b"
    again = re.sub(names, r"\g<1>2", f"{_ROOT}\n  {_CENTRED}").replace("(x", "(y0")
    before = _model(rest=_CENTRED.replace("y =", "y0 =") + "\n  " + again)
    _fused(before, FuseLayerNorm(), "LayerNormalization", count=2)


def test_older_models_are_rewritten_for_onnxruntime_alone() -> None:
    model = _model(opset=13)
    assert not FuseLayerNorm().run(model.copy(), context(target="cortex-m4")).modified
    assert FuseLayerNorm().run(model, context()).modified
    assert model.opset == 17


NO_LAYER_NORMS: dict[str, dict[str, str]] = {
    "an axis in the middle": {"root": _ROOT.replace("[-1]", "[1]")},
    "another axis for the squares": {
        "root": _ROOT.replace("<axes = [-1]> (square)", "<axes = [1]> (square)")},
    "a negative epsilon": {"epsilon": "float epsilon = {-1e-5}"},
    "the wrong way round": {"rest": _CENTRED.replace("(d, root)", "(root, d)")},
    "a square of another tensor": {"root": _ROOT.replace("Mul (d, d)", "Mul (d, x)")},
    "a difference the wrong way round": {"root": _ROOT.replace("Sub (x, mean)", "Sub (mean, x)")},
}  # fmt: skip


@pytest.mark.parametrize("spelling", NO_LAYER_NORMS.values(), ids=NO_LAYER_NORMS)
def test_what_is_no_layer_normalization(spelling: dict[str, str]) -> None:
    assert not FuseLayerNorm().run(_model(**spelling), context()).modified


def test_constants_that_add_axes_stay_outside() -> None:
    before = graph("""m (float[T, 4] x) => (float[1, T, 4] y)
      <float epsilon = {1e-5}, float[1, 1, 4] scale> {
      mean = ReduceMean <axes = [-1]> (x)
      d = Sub (x, mean)
      square = Mul (d, d)
      variance = ReduceMean <axes = [-1]> (square)
      more = Add (variance, epsilon)
      root = Sqrt (more)
      n = Div (d, root)
      y = Mul (n, scale)
    }""")
    after = before.copy()
    assert FuseLayerNorm().run(after, context()).modified
    assert [n.op for n in after.nodes()] == ["LayerNormalization", "Mul"]
    assert_same_outputs(before, after, random_feeds(before), rtol=_TOLERANCE, atol=_TOLERANCE)


_SQUARES = """square = Mul (x, x)
  mean = ReduceMean <axes = [-1]> (square)
  more = Add (mean, epsilon)
  root = Sqrt (more)"""

RMS_NORMS: dict[str, dict[str, str]] = {
    "a reciprocal": {"rest": "inverse = Reciprocal (root)\n  n = Mul (x, inverse)\n"
                             "  y = Mul (scale, n)"},
    "a power of minus a half": {"root": _SQUARES.replace("root = Sqrt (more)",
                                                         "inverse = Pow (more, half)"),
                                "rest": "n = Mul (x, inverse)\n  y = Mul (n, scale)"},
    "no scale": {"rest": "y = Div (x, root)"},
}  # fmt: skip


@pytest.mark.parametrize("spelling", RMS_NORMS.values(), ids=RMS_NORMS)
@pytest.mark.parametrize("opset", [13, 17])
def test_root_mean_squares_that_the_runtime_does_not_join(
    spelling: dict[str, str], opset: int
) -> None:
    before = _model(**({"root": _SQUARES} | spelling), opset=opset)
    after = _fused(before, FuseRmsNorm(), "RMSNormalization")
    assert after.opset == 23


def test_root_mean_squares_that_the_runtime_joins_are_left_to_it() -> None:
    rest = "inverse = Div (one, root)\n  n = Mul (x, inverse)\n  y = Mul (n, scale)"
    model = _model(root=_SQUARES, rest=rest)
    assert not FuseRmsNorm().run(model, context()).modified


def test_what_is_added_after_root_mean_squares_stays_outside() -> None:
    before = _model(root=_SQUARES, rest="n = Div (x, root)\n  y = Add (n, shift)")
    after = before.copy()
    assert FuseRmsNorm().run(after, context()).modified
    assert [n.op for n in after.nodes()] == ["RMSNormalization", "Add"]
    assert_same_outputs(before, after, random_feeds(before), rtol=_TOLERANCE, atol=_TOLERANCE)


def test_other_runtimes_keep_root_mean_squares() -> None:
    model = _model(root=_SQUARES, rest="y = Div (x, root)")
    assert not FuseRmsNorm().run(model, context(target="cortex-m4")).modified
