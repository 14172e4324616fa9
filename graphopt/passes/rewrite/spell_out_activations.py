"""Spell out activation functions of which onnxruntime has only slow kernels.

PRelu decides for every element which way to go, and Softplus, which Mish is made of, calls the C
library's logarithm: both are computed one element at a time, while exponentials, products and
maxima take vectors. Measured in benchmarks/results/operator_spellings.json.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt.passes.base import PassResult
from graphopt.passes.patterns import Const, Rule, Var, op, rewrite
from graphopt.passes.patterns.matching import is_onnxruntime
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.passes.patterns import Match

_BROADCASTS = 8
"""First opset in which Min takes a number beside a tensor."""
_ONE_FROM = 20.0
"""tanh(softplus(x)) is 1 in float32 from here on, and its square root still far from overflow."""

_FEWEST_ELEMENTS = 4096
"""Measured for PRelu (onnxruntime 1.31.1, Zen 4): equal from 2048 to 4096, 1.27x at 16384."""

x, slopes = Var("x"), Const("slopes")
_POWER = op.Exp(op.Min(x, _ONE_FROM))
_RATIO = _POWER * (_POWER + 2)
_MISH = x * op.Div(_RATIO, _RATIO + 2)


@dataclass(frozen=True)
class SpellOutActivations:
    """Turn PRelu of several slopes, and Mish, into operators that onnxruntime runs faster.

    PRelu(x) = relu(x) + slopes * min(x, 0). With n = exp(x), tanh(log(1 + n)) is
    n (n + 2) / (n (n + 2) + 2), so that Mish(x) (Misra 2019, arXiv:1908.08681) needs no logarithm.
    """

    name: ClassVar[str] = "spell-out-activations"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every one in float32 if onnxruntime executes the model."""
        if not is_onnxruntime(context.target) or graph.opset < _BROADCASTS:
            return PassResult(False)
        return rewrite(graph, context, _RULES)


def _refuse_type(match: Match) -> str | None:
    return None if match["x"].dtype is DType.FLOAT else "it is spelled out in float32 only"


def _refuse_slopes(match: Match) -> str | None:
    if not np.isfinite(match.array("slopes")).all():
        return "its slopes are not finite"
    sizes = [d for d in match["x"].shape or () if isinstance(d, int)]
    if math.prod(sizes) < _FEWEST_ELEMENTS:
        return f"PRelu of fewer than {_FEWEST_ELEMENTS} elements is as fast as its parts"
    return _refuse_type(match)


_RULES = (
    Rule(
        "PRelu operator",
        op.PRelu(x, slopes),
        op.Relu(x) + slopes * op.Min(x, 0.0),
        _refuse_slopes,
        "onnxruntime computes PRelu one element at a time",
    ),
    Rule(
        "Mish operator",
        op.Mish(x) | x * op.Tanh(op.Softplus(x)),
        _MISH,
        _refuse_type,
        "onnxruntime computes Softplus one element at a time",
    ),
)
