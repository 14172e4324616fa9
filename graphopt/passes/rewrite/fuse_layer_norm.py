"""Recognise a layer normalization that is spelled out and write it as one operator.

y = (x - mean(x)) / sqrt(mean((x - mean(x))²) + ε) * scale + shift, over the last axes, which is
LayerNormalization of opset 17 (Ba et al. 2016). onnxruntime knows some spellings and joins them
itself; not the one that squares by a product with itself, two separate differences, or the one of
TensorFlow, x * r + (shift - mean(x) * r) with r = scale / sqrt(…).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.passes.base import PassResult
from graphopt.passes.patterns import building
from graphopt.passes.patterns.matching import is_onnxruntime, made_by, partner, squared
from graphopt.passes.patterns.normalization import (
    Mean,
    Normalization,
    centred,
    divided_by_root,
    inverse_root,
    is_float,
    is_per_element,
    mean_of,
    operand,
    scaled,
    shifted,
    stabilized,
    write_normalizations,
)
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_OPSET = 17


@dataclass(frozen=True)
class FuseLayerNorm:
    """Turn spelled-out layer normalizations over the last axes into LayerNormalization."""

    name: ClassVar[str] = "fuse-layer-norm"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse every match; for onnxruntime older models are written for opset 17."""
        older = graph.opset < _OPSET and not is_onnxruntime(context.target)
        if older or not _matches(graph):
            return PassResult(False)
        return write_normalizations(graph, _OPSET, _matches, _fuse, "layer normalization")


def _matches(graph: Graph) -> list[Normalization]:
    if not graph.nodes("ReduceMean") or not graph.nodes("Sqrt", "Pow"):
        return []
    ir.infer_shapes(graph)
    found = [_centred_first(n) for n in graph.nodes("Div", "Mul")]
    found += [_scaled_first(n) for n in graph.nodes("Add")]
    return [each for each in found if each is not None]


def _centred_first(node: Node) -> Normalization | None:
    """Return the normalization whose centred values this operator divides."""
    for division in divided_by_root(node):
        mean = centred(division.numerator)
        epsilon = _epsilon(division.inner, mean)
        if mean is None or epsilon is None or not is_float(mean.of, mean.axis):
            continue
        x, axis = mean.of, mean.axis
        scale, result = scaled(node.outputs[0], x, axis, node)
        shift, result = shifted(result, x, axis, node)
        usual = division.usual and scale is not None and shift is not None
        return Normalization(x, axis, epsilon, scale, shift, result, usual)
    return None


def _epsilon(inner: Value, mean: Mean | None) -> float | None:
    """Return ε of mean((x - mean(x))²) + ε."""
    found = stabilized(inner)
    variance = mean_of(found[0]) if found is not None else None
    deviation = centred(squared(variance.of)) if variance is not None else None
    if found is None or variance is None or mean is None or deviation != mean:
        return None
    return found[1] if variance.axis == mean.axis else None


def _scaled_first(node: Node) -> Normalization | None:
    """Return the normalization x * r + (shift - mean * r) of which this is the sum."""
    if node.domain or len(node.inputs) != 2:
        return None
    for one, other in (node.inputs, node.inputs[::-1]):
        times, minus = made_by(one, "Mul"), made_by(other, "Sub")
        if times is None or minus is None or minus.inputs[0] is None:
            continue
        product = made_by(minus.inputs[1], "Mul")
        for value in product.inputs if product is not None else ():
            mean = mean_of(value)
            ratio = partner(product, value) if product is not None and value else None
            if mean is not None and ratio is not None and partner(times, mean.of) is ratio:
                return _from_ratio(node, mean, ratio, minus.inputs[0])
    return None


def _from_ratio(node: Node, mean: Mean, ratio: Value, shift: Value) -> Normalization | None:
    """Return the normalization with r = scale / sqrt(…), or 1 / sqrt(…)."""
    scale, root = _factors(ratio, mean)
    inner, _ = inverse_root(root)
    epsilon = _epsilon(inner, mean) if inner is not None else None
    if epsilon is None or not is_float(mean.of, mean.axis):
        return None
    if not is_per_element(shift, mean.of, mean.axis):
        return None
    return Normalization(mean.of, mean.axis, epsilon, scale, shift, node.outputs[0], False)


def _factors(ratio: Value, mean: Mean) -> tuple[Value | None, Value | None]:
    node = made_by(ratio, "Mul")
    for factor in node.inputs if node is not None else ():
        if node is not None and factor is not None and is_per_element(factor, mean.of, mean.axis):
            return factor, partner(node, factor)
    return None, ratio


def _fuse(graph: Graph, found: Normalization, x: Value) -> Value:
    operands = [x, operand(graph, found.scale, found)]
    if found.shift is not None:
        operands.append(operand(graph, found.shift, found))
    made = building.add_operator(
        graph,
        "LayerNormalization",
        operands,
        found.x.shape,
        {"axis": found.axis, "epsilon": found.epsilon},
        like=found.result,
    )
    graph.replace_uses(found.result, made)
    return made
