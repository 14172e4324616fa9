"""Compute the mean of whole feature maps as a pooling, for which runtimes have fast kernels.

onnxruntime has an integer kernel, and one for its blocked layout, of GlobalAveragePool; it has
neither of ReduceMean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.passes.base import PassResult, counted
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_FIRST_WITH_AXES_AS_INPUT = 18
_FEATURE_MAPS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool"})
_ELEMENTWISE = frozenset(
    {"Add", "BatchNormalization", "Clip", "Concat", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu",
     "Mul", "PRelu", "Relu", "Sigmoid", "Tanh"}
)  # fmt: skip
_LONGEST_WAY = 16
_MOST_STEPS = 3
"""One for each spatial axis."""


@dataclass(frozen=True)
class ReplaceReduceMean:
    """Turn ReduceMean over all spatial axes, in one or several steps, into GlobalAveragePool.

    A Flatten follows where the axes are dropped. Means of squares, and means that are subtracted
    from what they are taken of, stay: those are normalizations, which runtimes recognise by them;
    so do means over a sequence, which look like them.

    Args:
        flatten: replace means that drop the axes too; the Flatten is one operator more, which pays
            where the pooling then runs in integers. False makes one mean of several steps.
    """

    name: ClassVar[str] = "replace-reduce-mean"
    effect: ClassVar[Effect] = Effect.EXACT
    flatten: bool = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every mean whose rank and axes are known to fit."""
        if not any(n.domain == "" for n in graph.nodes("ReduceMean")):
            return PassResult(False)
        ir.infer_shapes(graph)
        replaced = 0
        for node in graph.nodes("ReduceMean"):
            mean = _mean(node)
            if mean is None or not mean.is_pooling():
                continue
            if self.flatten or mean.keeps_rank:
                _replace(graph, node, mean)
                replaced += 1
            elif len(mean.steps) > 1:
                _join(graph, node, mean)
                replaced += 1
        if not replaced:
            return PassResult(False)
        graph.sort()
        note = counted(replaced, "mean", "replaced")
        return PassResult(True, (note,), {"means": replaced})


@dataclass(frozen=True)
class _Mean:
    """A mean over ``axes`` of ``source``, computed by ``steps`` one after the other."""

    source: Value
    axes: frozenset[int]
    keeps_rank: bool
    steps: tuple[Node, ...]

    def is_pooling(self) -> bool:
        """Whether the axes are exactly those behind batch and channels of a feature map."""
        shape = self.source.shape
        if self.source.dtype is not DType.FLOAT or shape is None or len(shape) < 3:
            return False
        if self.axes != frozenset(range(2, len(shape))) or self._normalizes():
            return False
        return len(shape) > 3 or _is_feature_map(self.source)

    def _normalizes(self) -> bool:
        """Whether it is taken of squares, or subtracted from its own source."""
        producer, source = self.source.producer, self.source
        if producer is not None:
            squares = producer.op == "Mul" and len(set(producer.inputs)) == 1
            if squares or producer.op == "Pow":
                return True
        readers = self.steps[-1].outputs[0].consumers
        return any(reader.op == "Sub" and source in reader.inputs for reader in readers)


def _mean(node: Node, steps: int = _MOST_STEPS) -> _Mean | None:
    """Return what the node computes together with the means before it that only it reads."""
    source, axes = node.inputs[0], _axes(node)
    if node.domain or source is None or source.shape is None or axes is None:
        return None
    rank = len(source.shape)
    own = frozenset(a % rank for a in axes)
    keeps = bool(node.attribute("keepdims", 1))
    producer = source.producer
    if producer is None or producer.op != "ReduceMean" or len(source.uses) != 1:
        return _Mean(source, own, keeps, (node,))
    alone = source.is_output or producer.graph is not node.graph or steps == 1
    before = None if alone else _mean(producer, steps - 1)
    if before is None or before.keeps_rank != keeps:
        return _Mean(source, own, keeps, (node,))
    if not keeps:
        left = [a for a in range(rank + len(before.axes)) if a not in before.axes]
        own = frozenset(left[a] for a in own)
    return _Mean(before.source, before.axes | own, keeps, (*before.steps, node))


def _axes(mean: Node) -> list[int] | None:
    if mean.graph.opset < _FIRST_WITH_AXES_AS_INPUT:
        axes = mean.attribute("axes")
        return None if axes is None else list(axes)
    given = mean.inputs[1] if len(mean.inputs) > 1 else None
    if given is None or not given.is_constant:
        return None
    return [int(a) for a in given.array().reshape(-1)]


def _is_feature_map(value: Value) -> bool:
    """Whether a convolution or pooling, and then elementwise operators, made the value."""
    stack, seen = [value], 0
    while stack and seen < _LONGEST_WAY:
        seen += 1
        producer = stack.pop().producer
        if producer is None or producer.domain:
            continue
        if producer.op in _FEATURE_MAPS:
            return True
        if producer.op in _ELEMENTWISE:
            stack += [v for v in producer.inputs if v is not None]
    return False


def _replace(graph: Graph, node: Node, mean: _Mean) -> None:
    output, name = node.outputs[0], node.label
    pool = graph.add_node("GlobalAveragePool", [mean.source], 1, name=f"{name}_pool")
    pooled = pool.outputs[0]
    if not mean.keeps_rank:
        pooled = graph.add_node("Flatten", [pooled], 1, {"axis": 1}, name=f"{name}_flat").outputs[0]
    pooled.dtype = mean.source.dtype
    graph.replace_uses(output, pooled)
    for step in reversed(mean.steps):
        graph.remove(step)


def _join(graph: Graph, node: Node, mean: _Mean) -> None:
    """Take the mean over all axes at once."""
    axes = sorted(mean.axes)
    node.set_inputs([mean.source])
    if graph.opset < _FIRST_WITH_AXES_AS_INPUT:
        node.set_attribute("axes", axes)
    else:
        stored = graph.add_constant(f"{node.label}_axes", np.array(axes, dtype=np.int64))
        node.set_input(1, stored)
    for step in reversed(mean.steps[:-1]):
        graph.remove(step)
