"""QuantizeLinear, DequantizeLinear, and products with packed weights.

In an integer product a unit adds nothing when its weights are at their zero point, so what sums is
told by the weight alone; a weight whose zero point is not zero is left as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import (
    MICROSOFT,
    broadcast,
    contradiction,
    is_single,
    operand,
    position,
    rank,
    result,
    same_axes,
    together,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

BLOCKED = 21
"""The operator set from which scales may belong to blocks of an axis."""


# -- elements ------------------------------------------------------------------------------


def _linear(node: Node, links: Links) -> None:
    """Couple QuantizeLinear and DequantizeLinear: one scale, one for each index, or in blocks."""
    source, scale, made = operand(node, 0), operand(node, 1), result(node)
    if scale is None or source is None:
        links.freeze_node(node, contradiction(node))
    elif is_single(scale):
        same_axes(links, node, (source, made))
    elif node.attribute("block_size", 0):
        _blocked(node, links, (source, made), (scale, operand(node, 2)))
    elif same_axes(links, node, (source, made)):
        place = position(node.attribute("axis", 1), rank(source))
        _per_index(node, links, None if place is None else Axis(source, place), (1, 2))


def _per_index(node: Node, links: Links, channel: Axis | None, inputs: Iterable[int]) -> None:
    """Tie scales and zero points to the axis whose indices they belong to."""
    for index in inputs:
        value = operand(node, index)
        if value is None or is_single(value):
            continue
        if channel is None or rank(value) != 1:
            links.freeze_node(node, f"what the scales of `{node.label}` belong to is not known")
            return
        together(links, node, [channel, Axis(value, 0)])


def _blocked(
    node: Node, links: Links, values: Sequence[Value | None], scales: Sequence[Value | None]
) -> None:
    place = position(node.attribute("axis", 1), rank(values[0]))
    if place is None or not same_axes(links, node, [*values, *scales], but=(place,)):
        links.freeze_node(node, contradiction(node))
        return
    for value in (*values, *scales):
        if value is not None:
            reason = f"{node.op} `{node.label}` has a scale for each block of it"
            links.freeze(Axis(value, place), reason)


def _dynamic(node: Node, links: Links) -> None:
    source, made = operand(node, 0), result(node)
    if source is not None and same_axes(links, node, (source, made)):
        _follows(node, links, source)


def _follows(node: Node, links: Links, source: Value) -> None:
    for place in range(rank(source)):
        reason = f"the scale of {node.op} `{node.label}` follows the largest element"
        links.approximate(Axis(source, place), reason)


# -- integer products ----------------------------------------------------------------------


def _is_symmetric(zero: Value | None) -> bool:
    """Whether a zero point is omitted, or known to be zero."""
    return zero is None or (zero.is_constant and not zero.array().any())


def _off_centre(node: Node) -> str:
    return f"the weight of {node.op} `{node.label}` has a zero point"


def _convolution(node: Node, links: Links, scales: Sequence[int], zero: int, bias: int) -> None:
    """Couple an integer convolution: plain, or with one filter for each channel.

    Args:
        node: the operator.
        links: what is said.
        scales: inputs with one element, or one for each output channel.
        zero: input that is the zero point of the weight.
        bias: input that is the bias; -1 without one.
    """
    source, made = operand(node, 0), result(node)
    weight = operand(node, 3 if node.op == "QLinearConv" else 1)
    fault = _convolution_fault(node, source, weight, made, zero)
    if fault or source is None or weight is None or made is None:
        links.freeze_node(node, fault)
        return
    entering, leaving = Axis(source, 1), Axis(made, 1)
    shift = operand(node, bias) if bias >= 0 else None
    together(links, node, [Axis(source, 0), Axis(made, 0)])
    links.produce(node, leaving, Axis(weight, 0), None if shift is None else Axis(shift, 0))
    if node.attribute("group", 1) == 1:
        links.tie(entering, Axis(weight, 1))
        links.consume(node, None, Axis(weight, 1))
    else:
        links.tie(entering, leaving)
    _per_index(node, links, leaving, (*scales, zero))
    for value in (source, weight, made):
        for place in range(2, rank(value)):
            links.freeze(Axis(value, place), f"{node.op} `{node.label}` slides along it")


def _convolution_fault(
    node: Node, source: Value | None, weight: Value | None, made: Value | None, zero: int
) -> str:
    """Return why an integer convolution is left alone; empty when it is not."""
    if source is None or weight is None or made is None or node.attribute("channels_last", 0):
        return f"the layout of {node.op} `{node.label}` is not the usual one"
    if len({rank(source), rank(weight), rank(made)}) != 1 or rank(source) < 2:
        return contradiction(node)
    if not weight.is_constant or not _is_symmetric(operand(node, zero)):
        return _off_centre(node)
    groups = node.attribute("group", 1)
    entering, leaving = Axis(source, 1).size, Axis(made, 1).size
    rows, columns = Axis(weight, 0).size, Axis(weight, 1).size
    if leaving != rows or groups * (columns or 0) != entering:
        return f"the sizes around {node.op} `{node.label}` are not known"
    if groups != 1 and not (columns == 1 and groups == entering == leaving):
        return f"{node.op} `{node.label}` runs in groups of several channels"
    return ""


def _qlinear_conv(node: Node, links: Links) -> None:
    _convolution(node, links, (4, 6, 7), 5, 8)


def _conv_integer(node: Node, links: Links) -> None:
    _convolution(node, links, (), 3, -1)


def _fewer_groups(node: Node, cut: Cut) -> None:
    source = node.inputs[0]
    size = cut.size(source, 1) if source is not None else None
    if node.attribute("group", 1) != 1 and size is not None:
        node.set_attribute("group", size)


def _product(
    node: Node,
    links: Links,
    *,
    weight: int,
    zero: int,
    columns: Sequence[int],
    rows: Sequence[int] = (),
    bias: int = -1,
) -> None:
    """Couple a matrix product with an integer weight.

    Args:
        node: the operator.
        links: what is said.
        weight: input that is the weight, [K, N].
        zero: input that is its zero point.
        columns: inputs with one element, or one for each column.
        rows: inputs that must have one element.
        bias: input that is added, [N]; -1 without one.
    """
    source, held, made = operand(node, 0), operand(node, weight), result(node)
    shift = operand(node, bias) if bias >= 0 else None
    fault = _product_fault(node, source, held, made, operand(node, zero))
    if any(operand(node, i) is not None and not is_single(operand(node, i)) for i in rows):
        fault = fault or f"{node.op} `{node.label}` has a scale for each row"
    if fault or source is None or held is None or made is None:
        links.freeze_node(node, fault)
        return
    inner, outer = (1, 0) if node.attribute("transB", 0) else (0, 1)
    leaving = Axis(made, rank(made) - 1)
    same_axes(links, node, (source, made), but=(rank(made) - 1,))
    links.tie(Axis(source, rank(source) - 1), Axis(held, inner))
    links.consume(node, None, Axis(held, inner))
    links.produce(node, leaving, Axis(held, outer))
    _per_index(node, links, leaving, (*columns, zero))
    if shift is not None:
        broadcast(links, node, [shift], made, but=range(rank(made) - 1))


def _product_fault(
    node: Node, source: Value | None, held: Value | None, made: Value | None, zero: Value | None
) -> str:
    """Return why a product is left alone; empty when it is not."""
    if source is None or held is None or made is None or node.attribute("transA", 0):
        return f"the layout of {node.op} `{node.label}` is not the usual one"
    if rank(held) != 2 or rank(source) != rank(made) or rank(source) < 2:
        return f"{node.op} `{node.label}` does not multiply by a matrix"
    if not held.is_constant or not _is_symmetric(zero):
        return _off_centre(node)
    inner, outer = (1, 0) if node.attribute("transB", 0) else (0, 1)
    reads, makes = Axis(source, rank(source) - 1).size, Axis(made, rank(made) - 1).size
    if Axis(held, inner).size != reads or Axis(held, outer).size != makes:
        return f"the sizes around {node.op} `{node.label}` are not known"
    return ""


def _matmul_integer(node: Node, links: Links) -> None:
    _product(node, links, weight=1, zero=3, columns=(), rows=(2,))


def _qlinear_matmul(node: Node, links: Links) -> None:
    _product(node, links, weight=3, zero=5, columns=(4,), rows=(1, 2, 6, 7))


def _qgemm(node: Node, links: Links) -> None:
    _product(node, links, weight=3, zero=5, columns=(4,), rows=(1, 2, 7, 8), bias=6)


def _integer_to_float(node: Node, links: Links) -> None:
    _product(node, links, weight=1, zero=5, columns=(3,), rows=(2, 4), bias=6)


def _dynamic_product(node: Node, links: Links) -> None:
    """Couple DynamicQuantizeMatMul, which first looks at all that it reads."""
    _product(node, links, weight=1, zero=3, columns=(2,), bias=4)
    source = operand(node, 0)
    if source is not None:
        _follows(node, links, source)


# -- packed weights ------------------------------------------------------------------------


def _packed(node: Node, links: Links) -> None:
    """Couple MatMulNBits: rows of the weight are columns of the result; they stay in blocks."""
    source, weight, made = operand(node, 0), operand(node, 1), result(node)
    count = node.attribute("N", 0)
    blocks = f"MatMulNBits `{node.label}` packs it in blocks"
    if source is None or weight is None or made is None or not _is_packed(node, weight, made):
        links.freeze_node(node, blocks)
        return
    last = rank(made) - 1
    if not same_axes(links, node, (source, made), but=(last,)):
        return
    leaving = Axis(made, last)
    links.freeze(Axis(source, last), blocks)
    links.produce(node, leaving, Axis(weight, 0))
    for place in range(1, rank(weight)):
        links.freeze(Axis(weight, place), blocks)
    for index in (2, 3, 5):
        _packed_rows(node, links, leaving, operand(node, index), count)


def _is_packed(node: Node, weight: Value, made: Value) -> bool:
    count, unordered = node.attribute("N", 0), operand(node, 4) is None
    if not count or not unordered or not rank(made) or not rank(weight):
        return False
    return {Axis(weight, 0).size, Axis(made, rank(made) - 1).size} == {count}


def _packed_rows(node: Node, links: Links, leaving: Axis, value: Value | None, count: int) -> None:
    """Tie scales, zero points or a bias: so many elements for each row, one after the other."""
    if value is None:
        return
    first = Axis(value, 0)
    if rank(value) == 0 or not first.size or first.size % count:
        links.freeze(leaving, f"MatMulNBits `{node.label}` packs its rows together")
        return
    links.tie(first, leaving, of_other=np.arange(first.size) // (first.size // count))
    for place in range(1, rank(value)):
        links.freeze(Axis(value, place), f"MatMulNBits `{node.label}` packs it in blocks")


def _fewer_columns(node: Node, cut: Cut) -> None:
    made = node.outputs[0]
    size = cut.size(made, rank(made) - 1)
    if size is not None:
        node.set_attribute("N", size)


def _sealed(node: Node, links: Links) -> None:
    links.freeze_node(node, f"the weights of {node.op} `{node.label}` are packed")


# -- integer versions of other operators ---------------------------------------------------


def _q_binary(node: Node, links: Links) -> None:
    """Couple QLinearAdd and QLinearMul: each operand is followed by its scale and zero point."""
    _q_broadcast(node, links, (0, 3))


def _q_where(node: Node, links: Links) -> None:
    _q_broadcast(node, links, (0, 1, 4))


def _q_broadcast(node: Node, links: Links, operands: Sequence[int]) -> None:
    made = result(node)
    if made is None:
        links.freeze_node(node, contradiction(node))
    else:
        broadcast(links, node, [operand(node, index) for index in operands], made)


def _q_unary(node: Node, links: Links) -> None:
    same_axes(links, node, (operand(node, 0), result(node)))


def _q_pool(node: Node, links: Links) -> None:
    """Couple QLinearAveragePool and QLinearGlobalAveragePool: positions are averaged."""
    values = [operand(node, 0), result(node)]
    count = rank(values[0])
    channel = count - 1 if node.attribute("channels_last", 0) else 1
    if count < 2:
        links.freeze_node(node, contradiction(node))
        return
    inside = [place for place in range(1, count) if place != channel]
    if same_axes(links, node, values, but=inside):
        for value in values:
            for place in inside if value is not None else ():
                links.freeze(Axis(value, place), f"{node.op} `{node.label}` pools over it")  # type: ignore[arg-type]


def _q_concat(node: Node, links: Links) -> None:
    """Couple QLinearConcat: after its own scale and zero point come triples."""
    made = result(node)
    place = position(node.attribute("axis"), rank(made))
    parts = [value for value in node.inputs[2::3] if value is not None]
    sizes = [Axis(value, place).size if place is not None else None for value in parts]
    known = [size for size in sizes if size is not None]
    fits = made is not None and place is not None and len(known) == len(sizes)
    if made is None or place is None or not fits or sum(known) != Axis(made, place).size:
        links.freeze_node(node, f"the sizes around QLinearConcat `{node.label}` are not known")
        return
    if same_axes(links, node, (*parts, made), but=(place,)):
        starts = np.cumsum([0, *known])
        for value, start, size in zip(parts, starts, known, strict=False):
            of_made = np.arange(start, start + size)
            links.tie(Axis(value, place), Axis(made, place), of_other=of_made)


def _q_softmax(node: Node, links: Links) -> None:
    links.freeze_node(node, f"QLinearSoftmax `{node.label}` makes its elements add up to one")


def _contributed(op: str, couple: Callable[[Node, Links], None]) -> CouplingRule:
    return CouplingRule(op, couple, domain=MICROSOFT)


RULES: tuple[CouplingRule, ...] = (
    *(CouplingRule(f"{kind}Linear", _linear) for kind in ("Dequantize", "Quantize")),
    *(_contributed(f"{kind}Linear", _linear) for kind in ("Dequantize", "Quantize")),
    CouplingRule("DynamicQuantizeLinear", _dynamic),
    CouplingRule("QLinearConv", _qlinear_conv, _fewer_groups),
    CouplingRule("QLinearConv", _qlinear_conv, _fewer_groups, domain=MICROSOFT),
    CouplingRule("ConvInteger", _conv_integer, _fewer_groups),
    CouplingRule("MatMulInteger", _matmul_integer),
    CouplingRule("QLinearMatMul", _qlinear_matmul),
    _contributed("QGemm", _qgemm),
    _contributed("MatMulIntegerToFloat", _integer_to_float),
    _contributed("DynamicQuantizeMatMul", _dynamic_product),
    CouplingRule("MatMulNBits", _packed, _fewer_columns, domain=MICROSOFT),
    *(_contributed(op, _sealed) for op in ("GatherBlockQuantized", "MatMulBnb4", "MatMulFpQ4")),
    *(_contributed(op, _sealed) for op in ("QAttention", "QEmbedLayerNormalization", "QMoE")),
    *(_contributed(f"QLinear{op}", _q_binary) for op in ("Add", "Mul")),
    *(_contributed(f"QLinear{op}", _q_unary) for op in ("LeakyRelu", "Sigmoid")),
    *(_contributed(f"QLinear{op}", _q_pool) for op in ("AveragePool", "GlobalAveragePool")),
    _contributed("QLinearWhere", _q_where),
    _contributed("QLinearConcat", _q_concat),
    _contributed("QLinearSoftmax", _q_softmax),
)
