"""Bring every spelling of HardSigmoid and HardSwish into one form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt.passes.patterns import Rule, Var, op, rewrite
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context, PassResult
    from graphopt.passes.patterns import Match

_OPSET_OF_HARD_SWISH = 14

x = Var("x")
_CLIPPED = op.Clip(x + 3, 0.0, 6.0) | op.Clip(x + 3, min=0.0, max=6.0)
_GATE = op.HardSigmoid(x, alpha=float(np.float32(1.0) / np.float32(6.0)), beta=0.5)


@dataclass(frozen=True)
class ReplaceHardSwish:
    """Turn HardSwish, and Clip(x + 3, 0, 6) / 6 with or without x *, into HardSigmoid and Mul.

    Source: Howard et al. 2019, arXiv:1905.02244, sec. 5.2: hswish(x) = x * ReLU6(x + 3) / 6. That
    is how onnxruntime executes HardSwish itself; and the parts have integer forms.

    Args:
        parts: False writes the operator HardSwish instead (from opset 14 on): fewer operators that
            take the same time, for a model that nothing quantizes afterwards.
    """

    name: ClassVar[str] = "replace-hard-swish"
    effect: ClassVar[Effect] = Effect.EXACT
    parts: bool = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every occurrence in float32."""
        whole = not self.parts and graph.opset >= _OPSET_OF_HARD_SWISH
        return rewrite(graph, context, (*_WHOLE, _GATES) if whole else (*_PARTS, _GATES))


def _refuse(match: Match) -> str | None:
    source = match["x"]
    if source.dtype is not DType.FLOAT:
        return "hard-swish and hard-sigmoid have one form in float32 only"
    if source.producer is not None and source.producer.op == "DequantizeLinear":
        return "a second reader of its DequantizeLinear would undo what another tool fused"
    return None


_PARTS = (
    Rule("HardSwish operator", op.HardSwish(x), x * _GATE, _refuse),
    Rule("spelled-out hard-swish form", x * _CLIPPED / 6, x * _GATE, _refuse),
)
_WHOLE = (
    Rule("hard-swish of two operators", x * _GATE, op.HardSwish(x), _refuse),
    Rule("spelled-out hard-swish form", x * _CLIPPED / 6, op.HardSwish(x), _refuse),
)
_GATES = Rule("spelled-out hard-sigmoid form", _CLIPPED / 6, _GATE, _refuse)
