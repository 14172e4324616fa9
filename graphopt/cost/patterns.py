"""Groups of small float operators that onnxruntime executes as one: Gelu, norms, splits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.analysis import integers, only_consumer, scalar, static_shape
from graphopt.cost.shapes import dims, elements
from graphopt.ir import Node

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from graphopt.ir import Graph, Value

    Known = Callable[[Value], bool]

_ROOT = math.sqrt(2.0)
_CLOSE = 1e-3


@dataclass(frozen=True)
class Pattern:
    """One fused kernel.

    Args:
        name: the runtime's operator.
        node: what it computes: the operator of its kind, or a node that stands for it.
        nodes: the operators of the graph that it covers.
    """

    name: str
    node: Node
    nodes: tuple[Node, ...]


def find_patterns(graph: Graph, taken: AbstractSet[Node], known: Known) -> dict[Node, Pattern]:
    """Return the fused kernels of ``graph`` by the node that is executed last.

    Args:
        graph: with its shapes.
        taken: nodes that belong to other kernels, or to none.
        known: whether a value is computed before the first run.
    """
    rules: dict[str, tuple[Callable[[Node, Known], Pattern | None], ...]] = {
        "Erf": (_gelu,),
        "Sigmoid": (_quick_gelu,),
        "ReduceMean": (_layer_norm, _rms_norm),
        "MatMul": (_scaled_product,),
    }
    found: dict[Node, Pattern] = {}
    used: set[Node] = set(taken)
    for node in graph.nodes():
        if node.domain != "" or node in used:
            continue
        for rule in rules.get(node.op, ()):
            pattern = rule(node, known)
            if pattern is not None and used.isdisjoint(pattern.nodes):
                found[pattern.nodes[-1]] = pattern
                used.update(pattern.nodes)
                break
    return found


def find_splits(graph: Graph, taken: AbstractSet[Node]) -> dict[Node, tuple[Node, ...]]:
    """Return the slices that together cover an axis of a tensor, by the first of them.

    Where all readers of a tensor are such Slices, or Gathers of one position each, onnxruntime
    makes one Split of them.
    """
    found: dict[Node, tuple[Node, ...]] = {}
    values = dict.fromkeys(n.inputs[0] for n in graph.nodes("Slice", "Gather") if n not in taken)
    for value in values:
        parts = value.consumers if value is not None else ()
        if value is None or len(parts) < 2 or value.is_output or value.is_constant:
            continue
        if len(value.uses) == len(parts) and taken.isdisjoint(parts) and _covers(value, parts):
            found[parts[0]] = parts
    return found


def _covers(value: Value, parts: tuple[Node, ...]) -> bool:
    ranges = [_taken_range(value, node) for node in parts]
    known = sorted(r for r in ranges if r is not None)
    if len({n.op for n in parts}) > 1 or len(known) < len(parts):
        return False
    axis, _, end = known[0][0], known[0][1], 0
    for own, start, stop in known:
        if own != axis or start != end:
            return False
        end = stop
    return end == dims(value)[axis]


def _taken_range(value: Value, node: Node) -> tuple[int, int, int] | None:
    """Return axis, start and end of what a Slice or a Gather takes of a tensor."""
    shape = static_shape(value)
    if shape is None or node.domain != "" or node.inputs[0] is not value:
        return None
    if node.op == "Gather":
        index = integers(node.inputs[1])
        axis = int(node.attribute("axis", 0)) % len(shape)
        if index is None or node.inputs[1] is None or node.inputs[1].shape != ():
            return None
        start = index[0] % shape[axis]
        return axis, start, start + 1
    if node.op != "Slice" or len(node.inputs) < 4:
        return None
    given = [integers(v) for v in node.inputs[1:]]
    if any(g is None or len(g) != 1 for g in given) or (given[3:] and given[3] != [1]):
        return None
    start, stop, axis = (g[0] for g in given[:3] if g is not None)
    axis %= len(shape)
    cut = slice(start, stop).indices(shape[axis])
    return axis, cut[0], cut[1]


def _gelu(erf: Node, known: Known) -> Pattern | None:
    """Match x/2 * (1 + erf(x / sqrt(2))), with the half on either side."""
    scale = _producer(erf.inputs[0], "Div", "Mul")
    plus = _reader(erf, "Add")
    product = _reader(plus, "Mul")
    if scale is None or plus is None or product is None:
        return None
    root = _ROOT if scale.op == "Div" else 1 / _ROOT
    if not _is_number(scale.inputs[1], root, known):
        return None
    if not _is_number(_other(plus, erf.outputs[0]), 1.0, known):
        return None
    x = scale.inputs[0]
    other = _other(product, plus.outputs[0])
    if other is x:
        last = _reader(product, "Mul")
        if last is None or not _is_number(_other(last, product.outputs[0]), 0.5, known):
            return None
        nodes = (scale, erf, plus, product, last)
    else:
        half = _producer(other, "Mul")
        if half is None or x is None or not _is_number(_other(half, x), 0.5, known):
            return None
        nodes = (scale, erf, half, plus, product)
    return _with_bias(x, nodes, known)


def _with_bias(x: Value | None, nodes: tuple[Node, ...], known: Known) -> Pattern:
    """Return Gelu, or BiasGelu where a row was added that no product takes in."""
    made = Node.apart(nodes[-1], "Gelu", [x], nodes[-1].outputs)
    add = _producer(x, "Add")
    if x is None or add is None or not set(x.consumers) <= set(nodes) or x.is_output:
        return Pattern("Gelu", made, nodes)
    rows = [v for v in add.inputs if v is not None and known(v) and len(dims(v)) == 1]
    others = [v for v in add.inputs if v not in rows]
    if len(rows) != 1 or dims(rows[0])[0] != dims(x)[-1] or _becomes_gemm(others[0]):
        return Pattern("Gelu", made, nodes)
    made = Node.apart(nodes[-1], "BiasGelu", [others[0], rows[0]], nodes[-1].outputs)
    return Pattern("BiasGelu", made, (add, *nodes))


def _becomes_gemm(value: Value | None) -> bool:
    product = _producer(value, "MatMul")
    return product is not None and value is not None and only_consumer(value) is not None


def _quick_gelu(sigmoid: Node, known: Known) -> Pattern | None:
    """Match x * sigmoid(a x)."""
    last = _reader(sigmoid, "Mul")
    if last is None:
        return None
    x = _other(last, sigmoid.outputs[0])
    if x is sigmoid.inputs[0]:
        nodes: tuple[Node, ...] = (sigmoid, last)
    else:
        scale = _producer(sigmoid.inputs[0], "Mul")
        if scale is None or x not in scale.inputs or only_consumer(scale.outputs[0]) is None:
            return None
        factor = _other(scale, x) if x is not None else None
        if factor is None or not known(factor) or elements(factor) != 1:
            return None
        nodes = (scale, sigmoid, last)
    return Pattern("QuickGelu", Node.apart(last, "QuickGelu", [x], last.outputs), nodes)


def _layer_norm(mean: Node, known: Known) -> Pattern | None:
    """Match (x - mean) / sqrt(mean((x - mean)^2) + e) * scale + bias, from the first mean."""
    centred = _reader(mean, "Sub")
    if centred is None or centred.inputs[0] is not mean.inputs[0]:
        return None
    squares = [n for n in centred.outputs[0].consumers if n.op == "Pow"]
    if len(squares) != 1:
        return None
    tail = _normalised(squares[0], centred.outputs[0])
    if tail is None:
        return None
    scale = _reader(tail[-1], "Mul")
    bias = _reader(scale, "Add")
    if scale is None or bias is None:
        return None
    weights = [_other(scale, tail[-1].outputs[0]), _other(bias, scale.outputs[0])]
    if not all(v is not None and known(v) for v in weights):
        return None
    inputs = [mean.inputs[0], *weights]
    made = Node.apart(bias, "LayerNormalization", inputs, bias.outputs)
    return Pattern("LayerNormalization", made, (mean, centred, *tail, scale, bias))


def _rms_norm(mean: Node, known: Known) -> Pattern | None:
    """Match x / sqrt(mean(x^2) + e) * scale, from the mean."""
    square = _producer(mean.inputs[0], "Pow")
    if square is None or square.inputs[0] is None:
        return None
    tail = _normalised(square, square.inputs[0])
    scale = _reader(tail[-1], "Mul") if tail else None
    if tail is None or scale is None:
        return None
    weight = _other(scale, tail[-1].outputs[0])
    if weight is None or not known(weight):
        return None
    made = Node.apart(
        scale, "SimplifiedLayerNormalization", [square.inputs[0], weight], scale.outputs
    )
    return Pattern("SimplifiedLayerNormalization", made, (*tail, scale))


def _normalised(square: Node, x: Value) -> tuple[Node, ...] | None:
    """Return the operators from a square to the quotient x / sqrt(mean + e)."""
    mean = _reader(square, "ReduceMean")
    plus = _reader(mean, "Add")
    root = _reader(plus, "Sqrt")
    quotient = _reader(root, "Div")
    if mean is None or plus is None or root is None or quotient is None:
        return None
    if quotient.inputs[0] is x:
        return (square, mean, plus, root, quotient)
    product = _reader(quotient, "Mul")  # x * (1 / root)
    one = quotient.inputs[0]
    if product is None or one is None or elements(one) != 1 or x not in product.inputs:
        return None
    return (square, mean, plus, root, quotient, product)


def _scaled_product(product: Node, known: Known) -> Pattern | None:
    """Match a product whose operands are transposed or scaled by a number, or whose result is."""
    inputs = list(product.inputs[:2])
    nodes: list[Node] = []
    for position, value in enumerate(inputs):
        inner = value
        scale = _producer(inner, "Mul", "Div")
        if scale is not None and inner is not None and _is_scaled(scale, known):
            nodes.append(scale)
            inner = scale.inputs[0]
        flipped = _producer(inner, "Transpose")
        if flipped is not None and inner is not None and _flips(flipped):
            nodes.append(flipped)
            inner = flipped.inputs[0]
        inputs[position] = inner
    last = product
    after = _reader(product, "Mul", "Div")
    if after is not None and _is_factor(after.inputs[1], known):
        last = after
    if last is product and (not nodes or (_reader(product, "Add") and _row(product, known))):
        return None
    ends = (product,) if last is product else (product, last)
    return Pattern("FusedMatMul", product, (*nodes, *ends))


def _row(product: Node, known: Known) -> bool:
    """Whether a product has constant weights of two axes, as a Gemm wants them."""
    weight = product.inputs[1]
    return weight is not None and known(weight) and len(dims(weight)) == 2


def _is_scaled(node: Node, known: Known) -> bool:
    """Whether a Mul or Div by a known number has one reader."""
    return _is_factor(node.inputs[1], known) and only_consumer(node.outputs[0]) is not None


def _is_factor(value: Value | None, known: Known) -> bool:
    return value is not None and known(value) and elements(value) == 1


def _flips(transpose: Node) -> bool:
    """Whether a Transpose of one reader exchanges the last two axes."""
    order = [int(axis) for axis in transpose.attribute("perm", ())]
    rank = len(order)
    flipped = [*range(rank - 2), rank - 1, rank - 2]
    return rank > 1 and order == flipped and only_consumer(transpose.outputs[0]) is not None


def _producer(value: Value | None, *ops: str) -> Node | None:
    node = value.producer if value is not None else None
    return node if node is not None and node.op in ops and node.domain == "" else None


def _reader(node: Node | None, *ops: str) -> Node | None:
    """Return the one reader of a node's result when it is one of ``ops``."""
    reader = only_consumer(node.outputs[0]) if node is not None else None
    return reader if reader is not None and reader.op in ops and reader.domain == "" else None


def _other(node: Node, value: Value) -> Value | None:
    others = [v for v in node.inputs if v is not None and v is not value]
    return others[0] if len(others) == 1 else None


def _is_number(value: Value | None, wanted: float, known: Known) -> bool:
    """Whether a known value is ``wanted``; what is only computed at load is believed to be."""
    if value is None or not known(value) or elements(value) != 1:
        return False
    found = scalar(value)
    return found is None or abs(found - wanted) < _CLOSE * wanted
