"""Attention that is spelled out: what its softmax is made of, and what is made of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphopt.passes.patterns.attention_heads import (
    Packed,
    followed,
    leads_only_to,
    lifted,
    packed_third,
    parted_rows,
    regrouped,
    rows_of_heads,
    rows_read,
    unmoved,
    unrepeated,
    unturned,
)
from graphopt.passes.patterns.attention_scores import (
    Scores,
    guarded,
    read_scores,
    unscaled,
    with_scale,
)
from graphopt.passes.patterns.matching import made_by, sole_reader
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Dims, Symbols
    from graphopt.ir import Node, Value
    from graphopt.passes.patterns.attention_heads import Repeated
    from graphopt.passes.patterns.attention_masks import Masks


@dataclass(frozen=True)
class Operand:
    """Query, key or value, as far as it could be read back.

    Args:
        heads: [B, h, T, d].
        shape: of the heads.
        parted: [B, T, h, d] that they were transposed from.
        rows: [B, T, h * d] that were parted.
        packed: rows of query, key and value together that they are a third of.
        past: heads of earlier tokens that these were appended to.
        whole: what the two together are.
    """

    heads: Value
    shape: Dims
    parted: Value | None = None
    rows: Value | None = None
    packed: Packed | None = None
    past: Value | None = None
    whole: Value | None = None

    @property
    def has_rows(self) -> bool:
        """Whether the operator can be given rows, or what is rows by another view."""
        return self.parted is not None or self.packed is not None


Operands = tuple[Operand, Operand, Operand]


@dataclass(frozen=True)
class Attention:
    """softmax(scale * q kᵀ + mask) v, for all heads.

    Args:
        operands: query, key and value.
        scores: what is done to the product; None where there is an operator already.
        scores_shape: [B, h, T, S].
        guarded: whether NaN of the softmax became 0.
        mixed: [B, h, T, d], the result.
        parted: [B, T, h, d] where the heads of the result are brought back inside.
        joined: [B, T, h * d] where they are put side by side.
        operator: the Attention that takes heads as it is.
    """

    operands: Operands
    scores: Scores | None
    scores_shape: Dims
    guarded: bool
    mixed: Value
    parted: Value | None
    joined: Value | None
    operator: Node | None = None

    @property
    def by_rows(self) -> bool:
        """Whether the operator can be given rows and make rows."""
        return _by_rows(self.operands, self.parted)


def read_attention(softmax: Node, symbols: Symbols, masks: Masks) -> Attention | None:
    """Return the attention that this Softmax is the middle of, or None."""
    given = softmax.inputs[0] if softmax.inputs else None
    rank = len(symbols.shape(given) or ())
    if softmax.domain or given is None or given.dtype is not DType.FLOAT:
        return None
    weights, is_guarded = guarded(softmax)
    last = sole_reader(weights, softmax, "MatMul")
    scores = (
        read_scores(given, symbols) if softmax.attribute("axis", -1) in {-1, rank - 1} else None
    )
    if last is None or last.inputs[0] is not weights or last.inputs[1] is None or scores is None:
        return None
    found = _operands(scores, last.inputs[1], symbols)
    if found is None:
        return None
    scores, operands = found
    product = symbols.shape(scores.product.outputs[0]) or (0,)
    shape = (*operands[0].shape[:3], product[-1])
    if 0 in shape or masks.shape(scores.parts, shape) is None:
        return None
    if not masks.is_safe(scores.parts, guarded=is_guarded):
        return None
    mixed = _mixed(last, len(product), symbols)
    if mixed is None or mixed.producer is None:
        return None
    read = rows_read(mixed, mixed.producer, symbols) or (None, None)
    return Attention(operands, scores, shape, is_guarded, mixed, *read)


def _mixed(last: Node, rank: int, symbols: Symbols) -> Value | None:
    """Return [B, h, T, d] of the last product, which may have batch and heads in one axis."""
    if rank == 4:
        return followed(last.outputs[0], symbols)
    return regrouped(last.outputs[0], last, symbols)


def _operands(scores: Scores, value: Value, symbols: Symbols) -> tuple[Scores, Operands] | None:
    left, right = scores.product.inputs
    plain, outer = unscaled(unmoved(left, symbols))
    query, more = unscaled(lifted(plain, symbols))
    turned, across = unscaled(unmoved(right, symbols))
    flat, inner = unscaled(unturned(turned, symbols))
    key, values = lifted(flat, symbols), lifted(value, symbols)
    if query is None or key is None or values is None or right is None:
        return None
    groups = unrepeated(key, symbols), unrepeated(values, symbols)
    found = read_operands((query, *groups), (right, value), symbols)
    scale = outer * more * across * inner
    if found is None or scores.scale * scale <= 0:
        return None
    return with_scale(scores, scale), found


def read_operands(
    given: tuple[Value, Repeated, Repeated],
    ends: tuple[Value, Value] | None,
    symbols: Symbols,
) -> Operands | None:
    """Return query, key and value, read back as far as it goes, if they fit each other.

    Args:
        given: heads of the query, and those of key and value before they are repeated.
        ends: what is made of key and value in the end, which alone may read what earlier tokens
            were put before; None: such tokens are not looked for.
        symbols: of the graph.
    """
    query, shared, values = given
    fresh: list[tuple[Value, Value] | None] = [None, None]
    if ends is not None:
        pairs = zip((shared, values), ends, strict=True)
        fresh = [_appended(each.heads, end, symbols) for each, end in pairs]
    with_past = all(f is not None for f in fresh)
    q = _plain(query, symbols)
    k, v = (
        _read(each.heads, found if with_past else None, symbols)
        for each, found in zip((shared, values), fresh, strict=True)
    )
    if q is None or k is None or v is None:
        return None
    same = shared.count == values.count
    return (q, k, v) if same and _fits(q, k, v, symbols) else None


def _read(heads: Value, appended: tuple[Value, Value] | None, symbols: Symbols) -> Operand | None:
    if appended is None:
        return _plain(heads, symbols)
    past, fresh = appended
    source = _plain(fresh, symbols)
    return source and replace(source, past=past, whole=heads)


def _plain(heads: Value, symbols: Symbols) -> Operand | None:
    """Return what is known of heads; None without a shape of four axes."""
    shape = symbols.shape(heads)
    if shape is None or len(shape) != 4 or 0 in shape:
        return None
    parted = parted_rows(heads, symbols)
    packed = None if parted is not None else packed_third(heads, symbols)
    return Operand(heads, shape, parted, rows_of_heads(heads, symbols), packed)


def _appended(heads: Value, end: Value, symbols: Symbols) -> tuple[Value, Value] | None:
    """Return past and new heads of a Concat that only ``end`` and the caller of the model read."""
    node = made_by(heads, "Concat")
    if node is None or len(node.inputs) != 2 or node.attribute("axis") not in {2, -2}:
        return None
    past, fresh = node.inputs
    if past is None or fresh is None or past.tensor is not None:
        return None
    known = all(len(symbols.shape(v) or ()) == 4 for v in (past, fresh))
    return (past, fresh) if known and _is_read_for(heads, end) else None


def _is_read_for(heads: Value, end: Value) -> bool:
    """Whether all that is made of heads leads to ``end``, which one operator reads."""
    single = len(end.uses) == 1 and (not end.is_output or end is heads)
    return single and leads_only_to(heads, end)


def _fits(q: Operand, k: Operand, v: Operand, symbols: Symbols) -> bool:
    """Whether the operator takes the three: lengths, heads and sizes that are known to agree."""
    whole = [symbols.shape(o.whole) if o.whole is not None else o.shape for o in (k, v)]
    numbers = all(isinstance(d, int) for o in (q, k, v) for d in (o.shape[1], o.shape[3]))
    if not numbers or whole[0] is None or whole[1] is None:
        return False
    same = q.shape[0] == k.shape[0] == v.shape[0] and whole[0][1:3] == whole[1][1:3]
    # Which of them share a key was seen when repeating them was undone.
    groups = int(q.shape[1]) % int(k.shape[1]) == 0
    return same and groups and q.shape[3] == k.shape[3]


def read_operator(node: Node, symbols: Symbols) -> Attention | None:
    """Return what an Attention of heads could be given instead: rows, and heads without copies."""
    given = node.inputs[:3]
    shape = symbols.shape(node.outputs[0])
    if node.domain or len(node.inputs) > 4 or len(node.outputs) > 1 or shape is None:
        return None
    query, key, value = given
    if len(shape) != 4 or query is None or key is None or value is None:
        return None
    shared, values = unrepeated(key, symbols), unrepeated(value, symbols)
    found = read_operands((query, shared, values), None, symbols)
    mixed = followed(node.outputs[0], symbols)
    assert mixed.producer is not None
    parted, joined = rows_read(mixed, mixed.producer, symbols) or (None, None)
    if found is None or (shared.count == 1 and not _by_rows(found, parted)):
        return None
    columns = symbols.shape(shared.heads)
    scores = (*shape[:3], columns[2] if columns is not None else "?")
    return Attention(found, None, scores, False, mixed, parted, joined, node)


def _by_rows(operands: Operands, parted: Value | None) -> bool:
    return parted is not None and all(o.has_rows for o in operands)
