"""What passes ask of a graph: who makes and reads a value, means, squares and products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis import integers, only_consumer, scalar
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Node, Value
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]


def is_onnxruntime(target: Target) -> bool:
    """Whether onnxruntime on a CPU executes the model, whose newer operators others may lack."""
    return target.runtime == "onnxruntime-cpu" and bool(target.provider)


def partner(node: Node, value: Value) -> Value | None:
    """Return the other operand of an operator of two; ``value`` itself when it is both."""
    if len(node.inputs) != 2 or value not in node.inputs:
        return None
    first, second = node.inputs
    return second if first is value else first


def made_by(value: Value | None, *ops: str) -> Node | None:
    """Return the standard operator of one of these kinds, on its own level, that makes it."""
    node = value.producer if value is not None else None
    if node is None or node.domain or node.op not in ops or value is not node.outputs[0]:
        return None
    return node


def sole_reader(value: Value, graph_of: Node, *ops: str) -> Node | None:
    """Return the one standard operator that reads ``value`` if it is of these kinds."""
    node = only_consumer(value)
    if node is None or node.domain or node.op not in ops or node.graph is not graph_of.graph:
        return None
    return node


def number_beside(value: Value | None, like: Value | None) -> float | None:
    """Return the number that a constant of one element adds to, or multiplies, ``like`` by.

    None where the constant has more axes than ``like``, which the result would then have too.
    """
    if value is None or value.tensor is None or like is None:
        return None
    rank = len(like.shape) if like.shape is not None else 0
    return scalar(value) if len(value.tensor.shape) <= rank else None


def mean_over_last(value: Value | None) -> Value | None:
    """Return what a ReduceMean over the last axis that keeps it averages."""
    node = made_by(value, "ReduceMean")
    if node is None or not node.attribute("keepdims", 1) or node.inputs[0] is None:
        return None
    source = node.inputs[0]
    axes = integers(node.inputs[1]) if len(node.inputs) > 1 else node.attribute("axes")
    last = len(source.shape) - 1 if source.shape else None
    return source if axes is not None and len(axes) == 1 and axes[0] in {-1, last} else None


def squared(value: Value | None) -> Value | None:
    """Return x of x * x or of x to the power of 2."""
    node = made_by(value, "Mul", "Pow")
    if node is None or len(node.inputs) != 2:
        return None
    base, other = node.inputs
    square = other is base if node.op == "Mul" else number_beside(other, base) == 2.0
    return base if square else None


@dataclass(frozen=True)
class Product:
    """x @ weight + bias, with constant weight [K, N] and bias [N] or None."""

    node: Node
    x: Value
    weight: Array
    bias: Array | None


def read_product(value: Value | None) -> Product | None:
    """Return what a float MatMul or Gemm by a constant matrix computes."""
    node = made_by(value, "MatMul", "Gemm")
    if node is None or node.inputs[0] is None or node.inputs[1] is None:
        return None
    x, constant = node.inputs[:2]
    if x is None or constant is None or constant.tensor is None or x.is_constant:
        return None
    if len(constant.tensor.shape) != 2 or constant.tensor.dtype is not DType.FLOAT:
        return None
    if node.op == "MatMul":
        return Product(node, x, constant.array(), None)
    return _read_gemm(node, x, constant.array())


def _read_gemm(node: Node, x: Value, weight: Array) -> Product | None:
    if node.attribute("transA", 0) or node.attribute("alpha", 1.0) != 1.0:
        return None
    weight = weight.T if node.attribute("transB", 0) else weight
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if given is None:
        return Product(node, x, weight, None)
    if given.tensor is None or node.attribute("beta", 1.0) != 1.0:
        return None
    if math.prod(given.tensor.shape[:-1]) != 1 or given.tensor.size not in {1, weight.shape[1]}:
        return None
    bias = np.broadcast_to(given.array().reshape(-1), (weight.shape[1],))
    return Product(node, x, weight, bias)
