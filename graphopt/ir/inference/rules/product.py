"""Matrix products and attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir import dims as d
from graphopt.ir.inference.operands import MICROSOFT, rule
from graphopt.ir.inference.rules.elementwise import broadcast_all
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir.dims import Dim
    from graphopt.ir.inference.fact import Dims
    from graphopt.ir.inference.operands import Operands, Result


def multiplied(one: Dims | None, other: Dims | None) -> Dims | None:
    """Return the dimensions of a matrix product, vectors and stacks of matrices included."""
    if not one or not other:
        return None
    left, right = one if len(one) > 1 else (1, *one), other if len(other) > 1 else (*other, 1)
    stacked = broadcast_all([left[:-2], right[:-2]])
    if stacked is None:
        return None
    rows = () if len(one) == 1 else (left[-2],)
    columns = () if len(other) == 1 else (right[-1],)
    return (*stacked, *rows, *columns)


@rule("MatMul")
def multiply(o: Operands) -> list[Result]:
    """Rows of the first operand, columns of the second."""
    return [(o.dtype(0), multiplied(o.dims(0), o.dims(1)))]


@rule("MatMulInteger")
def multiply_integers(o: Operands) -> list[Result]:
    """Sums of products of bytes."""
    return [(DType.INT32, multiplied(o.dims(0), o.dims(1)))]


@rule("Gemm")
@rule("FusedGemm", domain=MICROSOFT)
def multiply_matrices(o: Operands) -> list[Result]:
    """Rows of the first operand, columns of the second, either turned round."""
    one, other = o.dims(0), o.dims(1)
    if o.opset < 7 and not (one is not None and len(one) == 2):
        return [(o.dtype(0), None)]
    rows = one[1 if o.attribute("transA", 0) else 0] if one is not None else None
    columns = other[0 if o.attribute("transB", 0) else 1] if other is not None else None
    return [(o.dtype(0), [rows, columns])]


@rule("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def multiply_turned(o: Operands) -> list[Result] | None:
    """A matrix product of operands whose last two axes may be swapped."""
    if o.attribute("transBatchA", 0) or o.attribute("transBatchB", 0):
        return [(o.dtype(0), None)]
    sides = [o.dims(0), o.dims(1)]
    for i, name in enumerate(("transA", "transB")):
        side = sides[i]
        if o.attribute(name, 0) and side is not None and len(side) > 1:
            sides[i] = (*side[:-2], side[-1], side[-2])
    return [(o.dtype(0), multiplied(*sides))]


@rule("Einsum")
def contract(o: Operands) -> list[Result] | None:
    """One axis for each letter of the result."""
    equation = str(o.attribute("equation", "")).replace(" ", "")
    if "." in equation:
        return None
    terms, arrow, result = equation.partition("->")
    lengths: dict[str, Dim] = {}
    for i, letters in enumerate(terms.split(",")):
        dims = o.dims(i)
        if dims is None or len(dims) != len(letters):
            return None
        for letter, size in zip(letters, dims, strict=True):
            lengths[letter] = d.broadcast(lengths.get(letter, 1), size)
    if not arrow:
        spoken = terms.replace(",", "")
        result = "".join(sorted(c for c in set(spoken) if spoken.count(c) == 1))
    return [(o.dtype(0), [lengths[letter] for letter in result])]


@rule("Attention")
def attend(o: Operands) -> list[Result] | None:
    """As many rows as queries, as wide as the values of all heads; then the keys and values."""
    query, key, value = (o.dims(i) for i in range(3))
    if query is None or key is None or value is None or len(query) != len(value):
        return None
    if len(query) == 4:
        results: list[Result] = [(o.dtype(0), (*query[:3], value[3]))]
        held, depth = (key[1], key[2]), (key[3], value[3])
    else:
        heads = {n: int(o.attribute(f"{n}_num_heads", 0)) for n in ("q", "kv")}
        if len(query) != 3 or not all(heads.values()):
            return None
        width = d.exact_quotient(value[2], heads["kv"])
        wide = None if width is None else d.multiply(width, heads["q"])
        results = [(o.dtype(0), (*query[:2], wide))]
        deep = d.exact_quotient(key[2], heads["kv"])
        if deep is None or width is None:
            return results
        held, depth = (heads["kv"], key[1]), (deep, width)
    past = o.dims(4)
    before = past[2] if past is not None else 0
    if o.has(4) and past is None:
        return results
    length = d.add(before, held[1])
    for i, deep in enumerate(depth):
        results.append((o.dtype(1 + i), (query[0], held[0], length, deep)))
    return results
