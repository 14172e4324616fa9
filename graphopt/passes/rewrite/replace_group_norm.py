"""Write group normalizations as the target's runtime runs them fast.

y = (x - mean) / sqrt(variance + ε) * scale + bias, with mean and variance over the channels of a
group and all places (Wu and He 2018, arXiv:1803.08494, equation 1). onnxruntime has no kernel of
GroupNormalization on CPUs: it lays the operator's function open, some twenty kernels. Runtimes of
accelerators have one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt.passes.base import PassResult
from graphopt.passes.patterns import Const, Rule, Var, op, rewrite
from graphopt.passes.patterns.matching import is_onnxruntime
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.passes.patterns import Match, Term

    Array = np.ndarray[Any, Any]

_OPSET = 21
"""Before it, GroupNormalization had one scale and bias for a group."""
_EPSILON = 1e-5

x, scale, bias = Var("x"), Const("scale"), Const("bias")
_ROWS = op.Reshape(x, Var("sizes"), allowzero={0, None}).named("rows")
_NORM = op.InstanceNormalization(_ROWS, Const("ones"), Const("zeros"), ...).named("norm")
_BACK = op.Reshape(_NORM, Var("shape"), allowzero={0, None}).named("back")


@dataclass(frozen=True)
class ReplaceGroupNorm:
    """Turn GroupNormalization into InstanceNormalization of groups, or the other way round.

    For onnxruntime on a CPU it becomes Reshape, InstanceNormalization, Reshape, Mul and Add. For an
    accelerator these become GroupNormalization of opset 21.
    """

    name: ClassVar[str] = "replace-group-norm"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every one in float32 whose sizes are known to fit."""
        if is_onnxruntime(context.target):
            return rewrite(graph, context, [_SPELL])
        fuses = not context.target.runtime.startswith("onnxruntime")
        return rewrite(graph, context, [_FUSE]) if fuses else PassResult(False)


def _refuse_operator(match: Match) -> str | None:
    """Return why an operator stays."""
    shape = match["x"].shape
    if match.graph.opset < _OPSET:
        return f"before opset {_OPSET} GroupNormalization is another function"
    if match["x"].dtype is not DType.FLOAT:
        return "group normalizations are replaced in float32 only"
    if shape is None or len(shape) < 3 or not isinstance(shape[1], int) or 0 in shape:
        return "the number of its channels is not known, or there is nothing to normalize"
    return None


def _spelled(match: Match) -> Term:
    shape, epsilon = match["x"].shape, match.root.attribute("epsilon", _EPSILON)
    assert shape is not None
    assert isinstance(shape[1], int)
    groups = int(match.root.attribute("num_groups"))
    spatial = [d for d in shape[2:] if isinstance(d, int)]
    is_known = len(spatial) == len(shape) - 2
    rest = shape[1] // groups * math.prod(spatial) if is_known else -1
    rows = op.Reshape(x, np.array([0, groups, rest], np.int64))
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    norm = op.InstanceNormalization(rows, ones, zeros, epsilon=epsilon)
    sizes = np.array([0, shape[1], *spatial], np.int64) if is_known else op.Shape(x)
    column = (shape[1], *[1] * (len(shape) - 2))
    back = op.Reshape(norm, sizes)
    return back * match.array("scale").reshape(column) + match.array("bias").reshape(column)


def _refuse_spelling(match: Match) -> str | None:
    """Return why a spelled-out normalization stays."""
    shape, rows = match["x"].shape, match["rows"].shape
    if match.graph.opset < _OPSET:
        return f"GroupNormalization needs opset {_OPSET}"
    if match["x"].dtype is not DType.FLOAT:
        return "group normalizations are replaced in float32 only"
    if shape is None or rows is None or len(shape) < 3 or None in shape[:2]:
        return "its sizes are not known"
    if match["back"].shape != shape or rows[0] != shape[0] or not isinstance(rows[1], int):
        return "it does not normalize groups of channels"
    if not isinstance(shape[1], int) or not rows[1] or shape[1] % rows[1]:
        return "it does not normalize groups of channels"
    if (match.array("ones") != 1).any() or (match.array("zeros") != 0).any():
        return "its groups have scales of their own"
    column = (shape[1], *[1] * (len(shape) - 2))
    fits = [match.array(name).shape in {column, (1, *column)} for name in ("scale", "bias")]
    return None if all(fits) else "its scale and bias are not those of channels"


def _fused(match: Match) -> Term:
    rows = match["rows"].shape
    assert rows is not None
    return op.GroupNormalization(
        x,
        match.array("scale").reshape(-1),
        match.array("bias").reshape(-1),
        num_groups=rows[1],
        epsilon=match.node("norm").attribute("epsilon", _EPSILON),
    )


_SPELL = Rule(
    "group normalization",
    op.GroupNormalization(x, scale, bias, ...),
    _spelled,
    _refuse_operator,
    "onnxruntime has no kernel of GroupNormalization",
)
_FUSE = Rule("spelled-out group normalization", _BACK * scale + bias, _fused, _refuse_spelling)
