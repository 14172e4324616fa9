"""AWQ: give features that matter larger weights, and divide the activations by as much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt import ir
from graphopt.passes.quantize.weight_only.gptq import Curvature
from graphopt.passes.quantize.weight_only.search_scales import search_scales

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.quantize.weight_only.blocks import Array, Grid

EXPONENTS = tuple(step / 10 for step in range(11))


def feature_factors(samples: Sequence[Array], grid: Grid, curvature: Curvature) -> Array | None:
    """Return what to multiply each input feature of some matrices by, or None for no gain.

    Lin, Tang, Tang, Yang, Dang and Han, "AWQ: Activation-aware Weight Quantization for LLM
    Compression and Acceleration" (MLSys 2024), section 3.2: the factors are the activations'
    magnitudes to a power between 0 and 1, the one that leaves the smallest error of the outputs.
    Magnitudes are root mean squares here, and clipping is left to the search over scales.

    Args:
        samples: rows of every matrix that multiplies the same activations; float [count, inputs].
        grid: the codes.
        curvature: of the activations.

    Returns:
        float32 [inputs], with the smallest and the largest balanced around 1.
    """
    size = np.sqrt(curvature.diagonal)
    best, chosen = np.inf, None
    for exponent in EXPONENTS:
        factors = size**exponent
        factors = (factors / np.sqrt(factors.max() * factors.min())).astype(np.float32)
        error = sum(_error(rows, factors, grid, curvature) for rows in samples)
        if error < best:
            best, chosen = error, factors if exponent else None
    return chosen


def _error(rows: Array, factors: Array, grid: Grid, curvature: Curvature) -> float:
    importance = curvature.diagonal / np.square(factors)
    found = search_scales(rows * factors, grid, importance).dequantized(rows.shape[1])
    return curvature.error(found / factors - rows)


def scaled_curvature(curvature: Curvature, factors: Array) -> Curvature:
    """Return the curvature of activations that were divided by ``factors``."""
    wide = factors.astype(np.float64)
    return Curvature(curvature.matrix / np.outer(wide, wide), damping=0.0)


def divide_activations(graph: Graph, value: Value, factors: Array, nodes: Iterable[Node]) -> bool:
    """Divide what ``nodes`` read of ``value`` by ``factors``; return whether that cost no operator.

    Where they alone read it, and it comes from a multiplication by a constant row or from a layer
    normalization, the division goes into those constants. Otherwise a Mul is put before them.
    """
    readers = set(nodes)
    inverse = (1 / factors).astype(np.float32)
    producer = value.producer
    alone = not value.is_output and set(value.consumers) <= readers
    if alone and producer is not None and _fold(graph, producer, inverse):
        return True
    divisor = graph.add_constant(
        f"{value.name}_divisor", ir.Tensor.from_array(inverse, value.dtype)
    )
    name = graph.unique_name(f"{value.name}_divided")
    node = graph.add_node("Mul", [value, divisor], [name])
    node.outputs[0].dtype, node.outputs[0].shape = value.dtype, value.shape
    for reader in readers:
        reader.set_input(0, node.outputs[0])
    graph.sort()
    return False


def _fold(graph: Graph, producer: Node, inverse: Array) -> bool:
    """Multiply the constants that give a value its scale; return whether there are such."""
    if producer.domain or producer.op not in {"Mul", "LayerNormalization"}:
        return False
    places = [i for i, v in enumerate(producer.inputs) if _is_row(v, inverse.size)]
    if producer.op == "Mul":
        places = places[:1]
    else:
        wanted = [i for i, v in enumerate(producer.inputs) if i and v is not None]
        if places != wanted or len(producer.outputs) > 1:
            return False
    for place in places:
        old = producer.inputs[place]
        assert old is not None
        values = old.array() * inverse
        tensor = ir.Tensor.from_array(values.astype(old.array().dtype), old.dtype)
        producer.set_input(place, graph.add_constant(f"{old.name}_divided", tensor))
        graph.drop_constant(old)
    return bool(places)


def _is_row(value: Value | None, count: int) -> bool:
    """Whether a constant has one entry per feature."""
    if value is None or not value.is_constant:
        return False
    shape = value.array().shape
    return bool(shape) and shape[-1] == count and value.array().size == count
