"""Write activation functions that are spelled out as the operators that they are.

Each is here because onnxruntime 1.31.1 was measured to run the operator faster than its spelling,
or as fast (benchmarks/results/operator_spellings.json). Softplus, PRelu of several slopes and Swish
are not here because each takes longer than what it is made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt.passes.patterns import Const, Number, Rule, Var, op, rewrite
from graphopt.passes.patterns.matching import is_onnxruntime
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context, PassResult
    from graphopt.passes.patterns import Match

_OPSET_OF_MISH = 18

x, slope = Var("x"), Number("slope")


@dataclass(frozen=True)
class FuseActivations:
    """Turn spelled-out Sigmoid, Relu, LeakyRelu and Mish into one operator each.

    They are 1 / (1 + exp(-x)); max(x, 0); max(x, a x) for 0 <= a <= 1, relu(x) - a relu(-x) and
    PRelu of slopes that are all a; and x tanh(softplus(x)), which is an operator from opset 18 on,
    but none that onnxruntime has a kernel of.
    """

    name: ClassVar[str] = "fuse-activations"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every spelling in float32."""
        fits = graph.opset >= _OPSET_OF_MISH and not is_onnxruntime(context.target)
        return rewrite(graph, context, (*_RULES, _MISH) if fits else _RULES)


def _refuse_type(match: Match) -> str | None:
    return None if match["x"].dtype is DType.FLOAT else "activations are fused in float32 only"


def _refuse_slope(match: Match) -> str | None:
    if not 0.0 <= match.number("slope") <= 1.0:
        return "the larger of x and a x is LeakyRelu only for 0 <= a <= 1"
    return _refuse_type(match)


def _refuse_slopes(match: Match) -> str | None:
    slopes = match["slopes"]
    if slopes.tensor is None or not slopes.tensor.size:
        return "there is no slope"
    if not np.all(match.array("slopes") == match.array("slopes").reshape(-1)[0]):
        return "its slopes differ"
    return _refuse_type(match)


def _one_slope(match: Match) -> float:
    return float(match.array("slopes").reshape(-1)[0])


_LEAKY = "spelled-out LeakyRelu"
_RULES = (
    Rule("spelled-out Sigmoid", 1 / (1 + op.Exp(-x)), op.Sigmoid(x), _refuse_type),
    Rule("spelled-out Relu", op.Max(x, 0.0), op.Relu(x), _refuse_type),
    Rule(
        _LEAKY,
        op.Max(x, slope * x),
        lambda match: op.LeakyRelu(x, alpha=match.number("slope")),
        _refuse_slope,
    ),
    Rule(
        _LEAKY,
        op.Sub(op.Relu(x), slope * op.Relu(-x)),
        lambda match: op.LeakyRelu(x, alpha=match.number("slope")),
        _refuse_type,
    ),
    Rule(
        _LEAKY,
        op.Add(op.Relu(x), slope * op.Relu(-x)),
        lambda match: op.LeakyRelu(x, alpha=-match.number("slope")),
        _refuse_type,
    ),
    Rule(
        "PRelu of one slope",
        op.PRelu(x, Const("slopes")),
        lambda match: op.LeakyRelu(x, alpha=_one_slope(match)),
        _refuse_slopes,
    ),
)
_MISH = Rule("spelled-out Mish", x * op.Tanh(op.Softplus(x)), op.Mish(x), _refuse_type)
