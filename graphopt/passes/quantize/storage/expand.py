"""The nodes that make a constant out of what is stored; a runtime computes them once, at load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph, Value
    from graphopt.passes.quantize.storage.few_bits import FewBits
    from graphopt.passes.quantize.storage.weights import Weight

    Array = np.ndarray[Any, Any]

_LARGEST = 127.0
_MANY = 64
"""Scales from which on 16 bits each save more than the Cast costs that they need."""


def expand(graph: Graph, weight: Weight, few: FewBits) -> None:
    """Put codes in the place of a weight: they times their scales, and rounded for integers."""
    value = weight.value
    shape = tuple(int(d) for d in value.shape or ())  # type: ignore[arg-type]
    whole = few.codes.shape[1] == 1
    codes, scales = few.codes, few.scales[..., None]
    if whole:
        codes, scales = _laid_out(weight, few, shape)
    result = _cast(graph, _packed(graph, value, codes, few.dtype), DType.FLOAT)
    result = _node(graph, "Mul", [result, scale_values(graph, value, scales)])
    if not whole:
        rows = (len(codes), codes.shape[1] * codes.shape[2])
        to = graph.add_constant(
            f"{value.name}_shape", np.asarray(rows if weight.columns else shape, np.int64)
        )
        result = _node(graph, "Reshape", [result, to])
        if weight.columns:
            result = _node(graph, "Transpose", [result], {"perm": [1, 0]})
    if value.dtype is DType.INT8:
        result = _cast(graph, _rounded(graph, result, few), DType.INT8)
    put_in_place(graph, value, result)


def _rounded(graph: Graph, result: Value, few: FewBits) -> Value:
    """Return whole numbers that fit into eight bits: the outermost codes may lie beyond."""
    if np.abs(few.codes * few.scales[..., None]).max(initial=0.0) > _LARGEST:
        ends = [graph.add_constant("end", np.float32(end)) for end in (-_LARGEST, _LARGEST)]
        result = _node(graph, "Clip", [result, *ends])
    return _node(graph, "Round", [result])


def scale_values(graph: Graph, value: Value, scales: Array) -> Value:
    """Return scales as a float32 value; many of them are stored in 16 bits."""
    if scales.size < _MANY:
        return graph.add_constant(f"{value.name}_scale", scales.astype(np.float32))
    stored = graph.add_constant(f"{value.name}_scale", scales.astype(np.float16))
    return _cast(graph, stored, DType.FLOAT)


def put_in_place(graph: Graph, value: Value, result: Value) -> None:
    """Let whoever reads a constant read what is computed instead, and remove it."""
    for node, index in value.uses:
        node.set_input(index, result)
    graph.remove_value(value)


def _laid_out(weight: Weight, few: FewBits, shape: Sequence[int]) -> tuple[Array, Array]:
    """Return codes in the shape of the weight, and one scale for each row that fits them."""
    codes, scales = few.codes[:, 0], few.scales[:, 0]
    if weight.columns:
        return np.ascontiguousarray(codes.T), scales[None, :]
    if weight.is_recurrent:
        return codes.reshape(shape), scales.reshape(*shape[:-1], 1)
    return codes.reshape(shape), scales.reshape(-1, *[1] * (len(shape) - 1))


def _packed(graph: Graph, value: Value, codes: Array, dtype: DType) -> Value:
    return graph.add_constant(f"{value.name}_stored", ir.Tensor.from_array(codes, dtype))


def _cast(graph: Graph, value: Value, to: DType) -> Value:
    return _node(graph, "Cast", [value], {"to": int(to)})


def _node(
    graph: Graph, op: str, inputs: Sequence[Value], attributes: Mapping[str, Any] | None = None
) -> Value:
    name = f"{inputs[0].name}_{op.lower()}"
    made = graph.add_node(
        op, inputs, [graph.unique_name(f"{name}_out")], attributes, graph.unique_name(name)
    )
    return made.outputs[0]
