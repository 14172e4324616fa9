"""Operators of onnxruntime's own domain that stand for parts of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir import dims as d
from graphopt.ir.inference.operands import MICROSOFT, rule
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir.dims import Dim
    from graphopt.ir.inference.fact import Dims
    from graphopt.ir.inference.operands import Operands, Result


@rule("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def normalize_sum(o: Operands) -> list[Result]:
    """As the first operand; the fourth result is the sum before it is normalized."""
    means: tuple[Dim, ...] | None = None
    dims = o.dims(0)
    if dims:
        means = (*dims[:-1], 1)
    return [(o.dtype(0), dims), (DType.FLOAT, means), (DType.FLOAT, means), (o.dtype(0), dims)]


@rule("EmbedLayerNormalization", domain=MICROSOFT)
def embed(o: Operands) -> list[Result]:
    """A row of the table for each id."""
    ids, table = o.dims(0), o.dims(2)
    if not ids or not table:
        return [(o.dtype(2), None)]
    made = (*ids, table[-1])
    return [(o.dtype(2), made), (DType.INT32, ids[:1]), (o.dtype(2), made)]


@rule("MultiHeadAttention", domain=MICROSOFT)
def attend(o: Operands) -> list[Result] | None:
    """As many rows as queries, as wide as the values of all heads; then the keys and values."""
    query, key, value = (o.dims(i) for i in range(3))
    heads = int(o.attribute("num_heads"))
    if not query or (o.has(1) and key is None) or (o.has(2) and value is None):
        return [(o.dtype(0), None)]
    if len(query) == 5:
        wide: Dim | None = d.multiply(heads, query[4])
    elif value is None:
        # Keys and values are packed: [batch, length, heads, 2, size].
        wide = query[2]
    else:
        wide = value[2] if len(value) == 3 else d.multiply(heads, value[3])
    results: list[Result] = [(o.dtype(0), (query[0], query[1], wide))]
    if len(o.node.outputs) > 1:
        results += [_present(o, query, side, heads, 6 + i) for i, side in enumerate((key, value))]
    return results


def _present(o: Operands, query: Dims, side: Dims | None, heads: int, past: int) -> Result:
    """Return keys or values with those of the past before them."""
    if side is None or len(side) not in {3, 4} or (o.has(past) and o.dims(past) is None):
        return (o.dtype(0), [None] * 4)
    separate = len(side) == 4
    length = side[2] if separate else side[1]
    deep = side[3] if separate else d.exact_quotient(side[2], heads)
    before = o.dims(past)
    return (o.dtype(0), (query[0], heads, d.add(before[2], length) if before else length, deep))


@rule("GroupQueryAttention", domain=MICROSOFT)
def attend_in_groups(o: Operands) -> list[Result] | None:
    """As many rows as queries; the caches are as long as whoever calls keeps them."""
    query = o.dims(0)
    heads, groups = int(o.attribute("num_heads")), int(o.attribute("kv_num_heads"))
    if not query or len(query) != 3:
        return [(o.dtype(0), None)]
    parts = heads if o.has(1) else heads + 2 * groups
    deep = d.exact_quotient(query[2], parts)
    wide = None if deep is None else d.multiply(deep, heads)
    cache: Result = (o.dtype(0), (query[0], groups, None, deep))
    return [(o.dtype(0), (query[0], query[1], wide)), cache, cache]


@rule("Attention", domain=MICROSOFT)
@rule("QAttention", domain=MICROSOFT)
def attend_to_itself(o: Operands) -> list[Result]:
    """As wide as the values, which are the last third of what the weight makes."""
    dims, weight = o.dims(0), o.dims(1)
    named = o.attribute("qkv_hidden_sizes")
    if not dims or len(dims) != 3 or not weight:
        return [(o.dtype(0), None)]
    wide = named[2] if named else d.exact_quotient(weight[-1], 3)
    kind = o.dtype(3) if o.node.op == "QAttention" else o.dtype(0)
    return [(kind, (dims[0], dims[1], wide))]


@rule("BiasSplitGelu", domain=MICROSOFT)
def gate(o: Operands) -> list[Result]:
    """Half as wide."""
    dims = o.dims(0)
    half = d.exact_quotient(dims[-1], 2) if dims else None
    return [(o.dtype(0), [*dims[:-1], half] if dims else None)]


@rule("GroupNorm", "SkipGroupNorm", "BiasAdd", "BiasSoftmax", "BiasDropout", domain=MICROSOFT)
def keep(o: Operands) -> list[Result]:
    """As the first operand."""
    return [(o.dtype(0), o.dims(0))]
