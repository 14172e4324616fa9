"""Recognise attention that is spelled out and write it as one operator.

y = softmax(scale * q kᵀ + mask) v for each head is the operator Attention of opset 23, which takes
rows before they are parted into heads, and keys and values that several query heads share (grouped
queries: Ainslie et al. 2023) without copies of them. The model is rewritten for opset 23 for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from graphopt import ir
from graphopt.analysis import only_consumer, scalar
from graphopt.analysis.symbols import Symbols
from graphopt.errors import ModelError
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns import building
from graphopt.passes.patterns.attention_heads import (
    HEADS_OUTSIDE,
    Repeated,
    rows_of_heads,
    unrepeated,
)
from graphopt.passes.patterns.matching import is_onnxruntime, made_by, partner, sole_reader
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Dims
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_OPSET = 23
_OLDEST_OPSET = 13
"""The first in which Softmax works along one axis."""
_TURNED = [0, 1, 3, 2]
_TURNED_HEADS = [0, 2, 3, 1]


@dataclass(frozen=True)
class FuseAttention:
    """Turn spelled-out scaled dot-product attention into Attention."""

    name: ClassVar[str] = "fuse-attention"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse every match; nothing changes when the model cannot be written for opset 23."""
        if not is_onnxruntime(context.target) or not _is_promising(graph):
            return PassResult(False)
        trial = graph.copy()
        if trial.opset < _OPSET:
            try:
                ir.upgrade_opset(trial, _OPSET)
            except ModelError as error:
                return PassResult(False, (f"stays at opset {graph.opset}: {error.message}",))
        parted = _part_transposes(trial)
        found = _matches(trial)
        if not found:
            return PassResult(False)
        for match in found:
            _fuse(trial, match)
        building.remove_unread(trial)
        _join_transposes(trial, parted)
        trial.sort()
        graph.assign(trial)
        note = counted(len(found), "attention", "fused")
        return PassResult(True, (note,), {"fused": len(found)})


def _is_promising(graph: Graph) -> bool:
    """Whether there is a match, before the model is rewritten for a newer set."""
    if not graph.nodes("Softmax") or graph.opset < _OLDEST_OPSET:
        return False
    trial = graph.copy()
    _part_transposes(trial)
    return bool(_matches(trial))


def _part_transposes(graph: Graph) -> list[Node]:
    """Write Transposes that part heads and turn keys at once as two, so that there are heads."""
    parted = []
    for node in graph.nodes("Transpose"):
        source = node.inputs[0]
        if node.attribute("perm") != _TURNED_HEADS or source is None or node.domain:
            continue
        order = {"perm": HEADS_OUTSIDE}
        heads = building.add_operator(graph, "Transpose", [source], None, order, like=source)
        node.set_input(0, heads)
        node.set_attribute("perm", _TURNED)
        parted.append(node)
    if parted:
        graph.sort()
    return parted


def _join_transposes(graph: Graph, parted: list[Node]) -> None:
    """Undo the parting where no attention was found."""
    left = set(graph.nodes())
    for node in parted:
        heads = made_by(node.inputs[0], "Transpose") if node in left else None
        if heads is not None:
            node.set_input(0, heads.inputs[0])
            node.set_attribute("perm", _TURNED_HEADS)
    building.remove_unread(graph)


@dataclass(frozen=True)
class _Match:
    rows: tuple[Value, Value, Value]
    """Query, key and value before they are parted into heads."""
    mask: Value | None
    scale: float
    result: Value
    """The mixed values with their heads side by side."""
    heads: tuple[int, int]
    """Of the query, and of key and value."""
    shape: Dims


def _matches(graph: Graph) -> list[_Match]:
    ir.infer_shapes(graph)
    symbols = Symbols(graph)
    found = (_match(node, symbols) for node in graph.nodes("Softmax"))
    return [match for match in found if match is not None]


def _match(softmax: Node, symbols: Symbols) -> _Match | None:
    scores = softmax.inputs[0] if softmax.inputs else None
    shape = symbols.shape(scores)
    if softmax.domain or shape is None or len(shape) != 4 or scores is None:
        return None
    if softmax.attribute("axis", -1) not in {-1, 3} or only_consumer(scores) is None:
        return None
    last = sole_reader(softmax.outputs[0], softmax, "MatMul")
    if last is None or last.inputs[0] is not softmax.outputs[0] or last.inputs[1] is None:
        return None
    plain, mask = _unmasked(scores, shape, symbols)
    product, scale = _unscaled(plain)
    first = made_by(product, "MatMul")
    if first is None or only_consumer(first.outputs[0]) is None:
        return None
    return _assembled(first, last, mask, scale, symbols)


def _unmasked(scores: Value, shape: Dims, symbols: Symbols) -> tuple[Value, Value | None]:
    """Return the scores before a mask is added, and the mask."""
    node = made_by(scores, "Add")
    for value in node.inputs if node is not None else ():
        mask = partner(node, value) if node is not None and value is not None else None
        if value is None or mask is None or mask is value:
            continue
        if symbols.shape(value) == shape and _is_mask(symbols.shape(mask), shape):
            return value, mask
    return scores, None


def _is_mask(mask: Dims | None, scores: Dims) -> bool:
    """Whether the mask has all rows and columns of the scores, for all heads or for each."""
    if mask is None or not 2 <= len(mask) <= 4:
        return False
    whole = all(
        m == s or (isinstance(m, str) and m.startswith(f"min({s},"))
        for m, s in zip(mask[-2:], scores[-2:], strict=True)
    )
    outer = zip(mask[:-2][::-1], scores[:-2][::-1], strict=False)
    return whole and all(m in {1, s} for m, s in outer) and len(mask) != 3


def _unscaled(value: Value | None) -> tuple[Value | None, float]:
    """Return what a chain of products with numbers scales, and by how much."""
    factor = 1.0
    while (node := made_by(value, "Mul", "Div")) is not None and len(node.inputs) == 2:
        inner, number = _scaled(node)
        if inner is None or not number:
            break
        factor *= number if node.op == "Mul" else 1 / number
        value = inner
    return value, factor


def _scaled(node: Node) -> tuple[Value | None, float | None]:
    """Return the operand and the number that a Mul or Div combines."""
    first, second = node.inputs
    for operand, constant in ((first, second), (second, first)):
        number = scalar(constant)
        if number is not None and constant is not None and constant.tensor is not None:
            plain = len(constant.tensor.shape) <= 1
            return (
                (operand, number)
                if plain and (operand is first or node.op == "Mul")
                else (None, None)
            )
    return None, None


def _assembled(
    first: Node, last: Node, mask: Value | None, scale: float, symbols: Symbols
) -> _Match | None:
    query, left = _unscaled(first.inputs[0])
    key, right = _untransposed(first.inputs[1])
    if query is None or key is None or last.inputs[1] is None:
        return None
    shared, values = unrepeated(key, symbols), unrepeated(last.inputs[1], symbols)
    shapes = [symbols.shape(v) for v in (query, shared.heads, values.heads)]
    if not _fits(shapes, shared, values) or query.dtype is not DType.FLOAT:
        return None
    q, k, v = (rows_of_heads(h, symbols) for h in (query, shared.heads, values.heads))
    result = _joined(last.outputs[0], symbols)
    shape = symbols.shape(result)
    if q is None or k is None or v is None or result is None or shape is None:
        # Read from heads that are outside already, the operator was measured to be no faster.
        return None
    heads = int(shapes[0][1]), int(shapes[1][1])  # type: ignore[index]
    return _Match((q, k, v), mask, scale * left * right, result, heads, shape)


def _fits(shapes: list[Dims | None], key: Repeated, value: Repeated) -> bool:
    q, k, v = shapes
    if q is None or k is None or v is None or not len(q) == len(k) == len(v) == 4:
        return False
    numbers = all(isinstance(d, int) for s in (q, k, v) for d in (s[1], s[3]))
    same = q[0] == k[0] == v[0] and k[1:3] == v[1:3] and q[3] == k[3]
    return numbers and same and key.count == value.count and q[1] == int(k[1]) * key.count


def _untransposed(value: Value | None) -> tuple[Value | None, float]:
    """Return k of scale * kᵀ."""
    outer, factor = _unscaled(value)
    node = made_by(outer, "Transpose")
    if node is None or node.attribute("perm") != _TURNED:
        return None, factor
    inner, more = _unscaled(node.inputs[0])
    return inner, factor * more


def _joined(result: Value, symbols: Symbols) -> Value | None:
    """Return [B, T, h * d] where the heads are put side by side."""
    move = sole_reader(result, result.producer, "Transpose") if result.producer else None
    if move is None or move.attribute("perm") != HEADS_OUTSIDE:
        return None
    node = sole_reader(move.outputs[0], move, "Reshape")
    parted = symbols.shape(move.outputs[0])
    if node is None or parted is None or not all(isinstance(d, int) for d in parted[2:]):
        return None
    wanted = (*parted[:2], int(parted[2]) * int(parted[3]))
    return node.outputs[0] if symbols.shape(node.outputs[0]) == wanted else None


def _fuse(graph: Graph, match: _Match) -> None:
    attributes: dict[str, Any] = {
        "scale": match.scale, "q_num_heads": match.heads[0], "kv_num_heads": match.heads[1]
    }  # fmt: skip
    operands = match.rows if match.mask is None else (*match.rows, match.mask)
    shape = tuple(None if isinstance(d, str) and d.startswith("?") else d for d in match.shape)
    made = building.add_operator(graph, "Attention", operands, shape, attributes, like=match.result)
    graph.replace_uses(match.result, made)
