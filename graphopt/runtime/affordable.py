"""What a model asks for in so many words that no machine like this one has it."""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING

from graphopt.errors import ModelError
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value

_MAKERS = ("ConstantOfShape", "Expand", "OneHot", "Pad", "Range", "Resize", "Tile")
"""Operators whose result may be of any size, as a few numbers say."""
_MOST_SIZES = 64
_UNKNOWN_MEMORY = 1 << 40
_INSIDE_BYTES = 1 << 30
"""What an inner graph may make of constants while a model is opened."""


def demand_affordable(graph: Graph) -> None:
    """Refuse a graph that makes a tensor larger than this machine's memory out of constants.

    Only what constants say of a single result is looked at, in the outermost graph: branches may
    never be taken. A model may ask for more in other ways, and for any amount of time.

    Raises:
        ModelError: G209, naming the node.
    """
    for node in graph.nodes(*_MAKERS):
        needed = 0 if node.domain else _least_bytes(node)
        if needed > memory_bytes():
            raise ModelError(
                f"{node.op} makes a tensor of {needed >> 30} GiB, "
                f"and this machine has {memory_bytes() >> 30} GiB of memory",
                code="G209",
                where=f"node `{node.label}`",
                hint="the model cannot be run here, so nothing about it can be checked",
            )


def inflates_inside(graph: Graph) -> bool:
    """Whether an inner graph makes a large tensor out of constants.

    onnxruntime computes such constants when it opens a model, in branches that are never taken too.
    """
    inner = (n for n in graph.walk() if n.graph is not graph and n.op in _MAKERS and not n.domain)
    return any(_least_bytes(node) > _INSIDE_BYTES for node in inner)


@functools.cache
def memory_bytes() -> int:
    """Return the memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return _UNKNOWN_MEMORY


def _least_bytes(node: Node) -> int:
    """Return what the result takes at least, as far as constants tell."""
    inputs = [*node.inputs, None, None, None, None]
    source = inputs[0]
    match node.op:
        case "ConstantOfShape":
            held = node.attribute("value")
            return _product(_numbers(source)) * _width(held.dtype if held is not None else None)
        case "Expand" | "Tile":
            sizes = _numbers(inputs[1])
            if source is not None and 0 in (source.shape or ()):
                return 0
            return _product(sizes) * _width(source.dtype if source is not None else None)
        case "OneHot":
            depth, values = _numbers(inputs[1]), inputs[2]
            width = _width(values.dtype if values is not None else None)
            return _product(depth) * _elements(source) * width
        case "Range":
            return _counted(inputs[:3])
        case "Resize":
            return _product(_numbers(inputs[3]))
    return _padded(source, _numbers(inputs[1]))


def _numbers(value: Value | None) -> list[float]:
    """Return the elements of a small constant; nothing where it is none."""
    tensor = value.tensor if value is not None else None
    if tensor is None or tensor.size > _MOST_SIZES or tensor.dtype is DType.STRING:
        return []
    return [float(v) for v in tensor.array().reshape(-1)]


def _product(sizes: list[float]) -> int:
    """Return the product of sizes; 0 where there are none, or some that are no sizes."""
    if not sizes or any(not math.isfinite(s) or s < 0 for s in sizes):
        return 0
    return math.prod(int(s) for s in sizes)


def _width(dtype: DType | None) -> int:
    return max(1, dtype.bits // 8) if dtype is not None else 4


def _elements(value: Value | None) -> int:
    shape = value.shape if value is not None else None
    return math.prod(d for d in shape if isinstance(d, int)) if shape is not None else 0


def _counted(bounds: list[Value | None]) -> int:
    numbers = [n for v in bounds for n in _numbers(v)[:1]]
    if len(numbers) < 3 or not numbers[2] or not all(map(math.isfinite, numbers)):
        return 0
    first = bounds[0]
    count = math.ceil((numbers[1] - numbers[0]) / numbers[2])
    return max(0, count) * _width(first.dtype if first is not None else None)


def _padded(value: Value | None, widths: list[float]) -> int:
    shape = value.shape if value is not None else None
    rank = len(shape) if shape is not None else len(widths) // 2
    if shape is None or len(widths) != 2 * rank:
        return 0
    known = [d if isinstance(d, int) else 0 for d in shape]
    return _product([d + widths[i] + widths[rank + i] for i, d in enumerate(known)])
