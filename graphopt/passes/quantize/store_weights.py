"""Store weights in fewer bits and expand them when the model is loaded.

A runtime computes what depends on constants only once, at load. So the model runs as before, at the
same speed and in the same memory; the file, and what is downloaded, is a half to an eighth of it.
No data is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.errors import ModelError, RecipeError
from graphopt.passes.base import PassResult
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Format:
    """An element type: its largest value, whether it is scaled, the opset whose Cast knows it."""

    dtype: DType
    largest: float
    scaled: bool
    opset: int


_FORMATS = {
    "float16": _Format(DType.FLOAT16, 65504.0, False, 13),
    "bfloat16": _Format(DType.BFLOAT16, 3.38e38, False, 13),
    "float8e4m3": _Format(DType.FLOAT8E4M3FN, 448.0, True, 19),
    "float8e5m2": _Format(DType.FLOAT8E5M2, 57344.0, True, 19),
    "int8": _Format(DType.INT8, 127.0, True, 13),
    "int4": _Format(DType.INT4, 7.0, True, 21),
}


@dataclass(frozen=True)
class StoreWeights:
    """Store float32 weights as a narrower type, expanded by the runtime at load.

    Args:
        format: "float16", "bfloat16", "float8e4m3", "float8e5m2", "int8" or "int4"; the last four
            with a scale for each slice along the first axis.
        smallest: weights with fewer elements than this stay as they are.
    """

    name: ClassVar[str] = "store-weights"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    format: str = "float16"
    smallest: int = 1024

    def __post_init__(self) -> None:
        if self.format not in _FORMATS:
            raise RecipeError(
                f"`{self.format}` is not a format of `store-weights`", hint=", ".join(_FORMATS)
            )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every large float32 constant by a narrow one and a Cast."""
        chosen = _FORMATS[self.format]
        before = ir.tensor_bytes(graph)
        if not any(self._qualifies(v, chosen) for v in graph.initializers):
            return PassResult(False, ("no large float32 weights",))
        if graph.opset < chosen.opset:
            try:
                ir.upgrade_opset(graph, chosen.opset)
            except ModelError as error:
                note = f"{self.format} needs opset {chosen.opset}: {error.message}"
                return PassResult(False, (note,))
        weights = [v for v in graph.initializers if self._qualifies(v, chosen)]
        for weight in context.progress(weights, len(weights), "storing weights"):
            _store(graph, weight, chosen)
        graph.sort()
        saved = 1 - ir.tensor_bytes(graph) / before
        note = f"{len(weights)} weights stored as {self.format}, {saved:.0%} less"
        return PassResult(True, (note,), {"weights": len(weights), "saved": saved})

    def _qualifies(self, weight: Value, chosen: _Format) -> bool:
        tensor = weight.tensor
        if tensor is None or tensor.dtype is not DType.FLOAT or tensor.size < self.smallest:
            return False
        if weight.is_output or weight.is_input:
            return False
        values = weight.array()
        finite = bool(np.isfinite(values).all())
        return finite and (chosen.scaled or float(np.abs(values).max()) <= chosen.largest)


def _store(graph: Graph, weight: Value, chosen: _Format) -> None:
    values = np.asarray(weight.array())
    readers = weight.uses
    scale = _scale(values, chosen) if chosen.scaled else None
    steps = values if scale is None else values / scale
    if chosen.dtype in {DType.INT8, DType.INT4}:
        steps = np.clip(np.rint(steps), -chosen.largest, chosen.largest)
    tensor = ir.Tensor.from_array(steps, chosen.dtype)
    stored = graph.add_constant(f"{weight.name}_stored", tensor)
    cast = graph.add_node(
        "Cast",
        [stored],
        [graph.unique_name(f"{weight.name}_expanded")],
        {"to": int(DType.FLOAT)},
        name=graph.unique_name(f"Cast_{weight.name}"),
    )
    result = cast.outputs[0]
    if scale is not None:
        scales = graph.add_constant(f"{weight.name}_scale", scale)
        scaling = graph.add_node(
            "Mul",
            [result, scales],
            [graph.unique_name(f"{weight.name}_scaled")],
            name=graph.unique_name(f"Mul_{weight.name}"),
        )
        result = scaling.outputs[0]
    for node, index in readers:
        node.set_input(index, result)
    graph.remove_value(weight)


def _scale(values: Array, chosen: _Format) -> Array:
    """Return one scale per slice along the first axis, or one for all of a vector."""
    axes = tuple(range(1, values.ndim)) if values.ndim > 1 else (0,)
    peak = np.abs(values).max(axis=axes, keepdims=True)
    return np.where(peak > 0, peak / chosen.largest, 1.0).astype(np.float32)
