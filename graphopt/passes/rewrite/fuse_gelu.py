"""Write every spelling of Gelu as the operator, or as the spelling that runtimes recognise.

Gelu(x) = x/2 (1 + erf(x / √2)), and its approximation x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))
(Hendrycks and Gimpel 2016, arXiv:1606.08415, sec. 2), are one operator from opset 20 on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.passes.patterns import Rule, Var, op, rewrite
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph
    from graphopt.passes.base import Context, PassResult
    from graphopt.passes.patterns import Match, Term

_OPSET = 20
_ROOT = math.sqrt(2.0)
_SLOPE = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715

x = Var("x")


def _argument(slope: float) -> Term:
    """Return slope * (x + c x³) in its two factorings."""
    return slope * (x + _CUBIC * x**3) | slope * x * (1 + _CUBIC * x**2)


_ERF = 0.5 * x * (1 + op.Erf(x / _ROOT))
_TANH = 0.5 * x * (1 + op.Tanh(_argument(_SLOPE)))
_SIGMOID = x * op.Sigmoid(_argument(2 * _SLOPE))

# Operator by operator what onnxruntime 1.31 makes one kernel of, whatever the order of operands.
_HALF = op.Mul(x, 0.5)
_PLUS = op.Add(op.Erf(op.Div(x, _ROOT)), 1.0)
_KNOWN_ERF = op.Mul(_HALF, _PLUS)
_CUBE = op.Mul(op.Add(x, op.Mul(op.Pow(x, 3.0), _CUBIC)), _SLOPE)
_KNOWN_TANH = op.Mul(_HALF, op.Add(op.Tanh(_CUBE), 1.0))
_SQUARE = op.Add(op.Mul(op.Mul(x, _CUBIC), x), 1.0)
_KNOWN = (
    _KNOWN_ERF,
    op.Mul(op.Mul(x, _PLUS), 0.5),
    _KNOWN_TANH,
    op.Mul(_HALF, op.Add(op.Tanh(op.Mul(op.Mul(x, _SLOPE), _SQUARE)), 1.0)),
)


@dataclass(frozen=True)
class FuseGelu:
    """Turn spelled-out Gelus, exact or by tanh, into Gelu of opset 20.

    In a model of an older set they are spelled as onnxruntime recognises them: as
    (x * 0.5) * (1 + erf(x / √2)), and with Pow for the cube. No model is upgraded for that.
    """

    name: ClassVar[str] = "fuse-gelu"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every spelling in float32."""
        return rewrite(graph, context, _FUSE if graph.opset >= _OPSET else _RESPELL)


def _refuse_type(match: Match) -> str | None:
    dtype = match["x"].dtype
    return None if dtype is DType.FLOAT else "Gelu is written as one operator in float32 only"


def _refuse_known(match: Match) -> str | None:
    """Refuse what runtimes recognise already."""
    if any(term.fits(match.root) for term in _KNOWN):
        return f"runtimes recognise this Gelu; the operator needs opset {_OPSET}"
    return _refuse_type(match)


def _rules(
    erf: Term, tanh: Term, refuse: Callable[[Match], str | None], because: str
) -> tuple[Rule, ...]:
    what = "spelled-out Gelu"
    return (
        Rule(what, _ERF, erf, refuse, because),
        Rule(what, _TANH, tanh, refuse, because),
        Rule(what, _SIGMOID, tanh, refuse, because),
    )


_FUSE = _rules(op.Gelu(x), op.Gelu(x, approximate="tanh"), _refuse_type, "Gelu, spelled out")
_RESPELL = _rules(_KNOWN_ERF, _KNOWN_TANH, _refuse_known, "Gelu as runtimes recognise it")
