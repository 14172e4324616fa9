"""Recognise a softmax, or its logarithm, that is spelled out and write it as one operator.

softmax(x) = exp(x - m) / Σ exp(x - m) and log softmax(x) = x - m - log Σ exp(x - m), where m is the
maximum or, in a careless spelling, left out. Exporters of JAX and of older TensorFlow write so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.analysis import integers
from graphopt.passes.base import PassResult
from graphopt.passes.patterns import Rule, Var, maybe, op, rewrite
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt.passes.patterns import Match, Term

_OPSET = 13
"""Before it, Softmax ran over several axes together."""

x = Var("x")
_SHIFTED = maybe(op.Sub(x, op.ReduceMax(x, ..., keepdims={1, None}).named("maximum")))
_KEPT = _SHIFTED.named("shifted")
_POWERS = op.Exp(_SHIFTED).named("powers")
_SUM = op.ReduceSum(_POWERS, ..., keepdims={1, None}).named("sum")


@dataclass(frozen=True)
class FuseSoftmax:
    """Turn exponentials that are divided by their sum over one axis into Softmax.

    The logarithm of that, as a difference, becomes LogSoftmax.
    """

    name: ClassVar[str] = "fuse-softmax"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse every match over one axis that is known."""
        if graph.opset < _OPSET:
            return PassResult(False)
        return rewrite(graph, context, _RULES)


def _axis(match: Match, node: Node) -> int | None:
    """Return the one axis that a node reduces, from the front; None with several or if unknown."""
    given = node.inputs[1] if len(node.inputs) > 1 else None
    axes = integers(given) if given is not None else node.attribute("axes")
    shape = match["x"].shape
    if axes is None or len(axes) != 1 or shape is None:
        return None
    return int(axes[0]) % len(shape)


def _refuse(match: Match) -> str | None:
    axis = _axis(match, match.node("sum"))
    if match["x"].dtype is not DType.FLOAT:
        return "a softmax is fused in float32 only"
    if axis is None:
        return "it does not run over one axis that is known"
    if "maximum" in match.values and _axis(match, match.node("maximum")) != axis:
        return "its maximum is not over the axis of its sum"
    return None


def _softmax(match: Match) -> Term:
    return op.Softmax(x, axis=_axis(match, match.node("sum")))


def _log_softmax(match: Match) -> Term:
    return op.LogSoftmax(x, axis=_axis(match, match.node("sum")))


_RULES = (
    Rule("spelled-out softmax operation", op.Div(_POWERS, _SUM), _softmax, _refuse),
    Rule(
        "spelled-out softmax operation",
        op.Mul(_POWERS, op.Reciprocal(_SUM)),
        _softmax,
        _refuse,
    ),
    Rule(
        "spelled-out log-softmax operation",
        op.Sub(_KEPT, op.Log(op.ReduceSum(op.Exp(_KEPT), ..., keepdims={1, None}).named("sum"))),
        _log_softmax,
        _refuse,
    ),
)
