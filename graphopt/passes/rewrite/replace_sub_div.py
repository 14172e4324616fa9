"""Subtract and divide by constants as addition and multiplication, which runtimes fuse.

onnxruntime merges Add and Mul into the convolution before them, and has integer kernels of both;
it has neither for Sub and Div.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt.passes.patterns import Const, Rule, Var, op, rewrite
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context, PassResult
    from graphopt.passes.patterns import Match

_TYPES = frozenset({DType.FLOAT, DType.DOUBLE})

x, constant = Var("x"), Const("constant", where=lambda value: value.dtype in _TYPES)


@dataclass(frozen=True)
class ReplaceSubDiv:
    """Turn Sub of a constant into Add, and Div by a constant into Mul.

    x / c becomes x * (1/c), which rounds once more: a relative difference of at most 2^-23 in
    float32. A Div before Erf stays: runtimes recognise Gelu by it.
    """

    name: ClassVar[str] = "replace-sub-div"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every Sub and Div whose second operand is a constant that allows it."""
        return rewrite(graph, context, _RULES)


def _refuse_divisor(match: Match) -> str | None:
    if any(reader.op == "Erf" for reader in match.root.outputs[0].consumers):
        return "runtimes recognise Gelu by it"
    magnitude = np.abs(match.array("constant"))
    smallest = np.finfo(magnitude.dtype).tiny
    fits = np.all((magnitude >= smallest) & (magnitude <= 1 / smallest))
    return None if fits else "its divisor has no reciprocal of full precision"


_RULES = (
    Rule("Sub operator", op.Sub(x, constant), lambda m: op.Add(x, -m.array("constant"))),
    Rule(
        "Div operator",
        op.Div(x, constant),
        lambda m: op.Mul(x, 1 / m.array("constant")),
        _refuse_divisor,
    ),
)
