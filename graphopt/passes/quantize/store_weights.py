"""Store weights in fewer bits and expand them when the model is loaded.

A runtime computes what depends on constants only once, at load. So the model runs as before, at the
same speed and in the same memory; the file, and what is downloaded, is a half to an eighth of it.
No data is needed; with data four bits are rounded so that outputs change least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from graphopt import ir
from graphopt.errors import ModelError, RecipeError
from graphopt.passes.base import PassResult
from graphopt.passes.quantize.storage.expand import expand
from graphopt.passes.quantize.storage.few_bits import (
    chosen,
    curvatures,
    in_eight_bits,
    in_four_bits,
)
from graphopt.passes.quantize.storage.names import shorten_names
from graphopt.passes.quantize.storage.regular import store_regular
from graphopt.passes.quantize.storage.weights import stored_weights
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Value
    from graphopt.passes.base import Context
    from graphopt.passes.quantize.storage.weights import Weight

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
_OFF = "off"
_REGULAR_OPSET = 14
_REGULAR_BYTES = 512


@dataclass(frozen=True)
class StoreWeights:
    """Store weights as a narrower type, expanded by the runtime at load.

    Args:
        format: of float32 weights: "float16", "bfloat16", "float8e4m3", "float8e5m2", "int8" or
            "int4", the last four with a scale for each slice along the first axis; or "off", to
            store everything as it is.
        smallest: weights with fewer elements than this stay as they are.
        eight_bits: store float32 weights of Conv, products, look-ups and recurrent layers in 8
            bits, with a scale for each output or row; ``format`` is of the other constants then.
        four_bits: share of these weights, by elements, that get 4 bits with a scale for each 16 to
            64 of them: those first whose rounding costs least. Int8 weights of a quantized model
            are among them; they are computed with in 8 bits as before.
        exact: store constants that follow from fewer numbers, such as masks and repetitions, by
            those.
        names: "keep", or "short" to rename what is inside to a letter or a few; reports call
            operators by these afterwards.
    """

    name: ClassVar[str] = "store-weights"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    format: str = "float16"
    smallest: int = 1024
    eight_bits: bool = False
    four_bits: float = 0.0
    exact: bool = False
    names: Literal["keep", "short"] = "keep"

    def __post_init__(self) -> None:
        if self.format not in {*_FORMATS, _OFF}:
            raise RecipeError(
                f"`{self.format}` is not a format of `store-weights`",
                hint=", ".join([*_FORMATS, _OFF]),
            )
        if self.names not in {"keep", "short"}:
            raise RecipeError(f"`names` is {self.names!r}", code="G103", hint="keep, short")
        if not 0.0 <= self.four_bits <= 1.0:
            raise RecipeError(
                f"`four-bits` is {self.four_bits}", code="G103", hint="a share, from 0 to 1"
            )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace large constants by narrow ones, and what makes the former of them."""
        needed = self._opset(graph)
        if not needed:
            return PassResult(False, ("off",) if self.format == _OFF else ("no large weights",))
        if graph.opset < needed:
            try:
                ir.upgrade_opset(graph, needed)
            except ModelError as error:
                return PassResult(False, (f"opset {needed} is needed: {error.message}",))
        before = ir.tensor_bytes(graph)
        regular = store_regular(graph, _REGULAR_BYTES) if self.exact else 0
        few = self._in_four_bits(graph, context)
        more = self._in_eight_bits(graph)
        weights = self._in_format(graph, context)
        graph.sort()
        count = few + more + weights
        renamed = shorten_names(graph) if self.names == "short" else 0
        if not count + regular + renamed:
            return PassResult(False, ("no large weights",))
        saved = 1 - ir.tensor_bytes(graph) / before
        told = [f"{weights} weights stored as {self.format}"] if weights else []
        told += [f"{more} weights stored in 8 bits"] if more else []
        told += [f"{few} weights stored in 4 bits"] if few else []
        told += [f"{regular} constants stored by what they follow from"] if regular else []
        told += [f"{renamed} names shortened"] if renamed else []
        metrics = {"weights": count, "regular": regular, "saved": saved}
        return PassResult(True, (f"{', '.join(told)}, {saved:.0%} less",), metrics)

    def _opset(self, graph: Graph) -> int:
        """Return the operator set that is needed; 0 where there is nothing to store."""
        needed = [1] if self.names == "short" else []
        needed += [_REGULAR_OPSET] if self.exact else []
        if self.four_bits and any(stored_weights(graph, self.smallest)):
            needed.append(_FORMATS["int4"].opset)
        if self.eight_bits and self._to_eight_bits(graph):
            needed.append(_FORMATS["int8"].opset)
        if self.format != _OFF and self._qualifying(graph):
            needed.append(_FORMATS[self.format].opset)
        return max(needed, default=0)

    def _in_four_bits(self, graph: Graph, context: Context) -> int:
        if not self.four_bits:
            return 0
        weights = [w for w in stored_weights(graph, self.smallest) if _is_finite(w.value)]
        known = curvatures(graph, weights, context)
        steps = context.progress(weights, len(weights), "rounding weights")
        found = {weight: in_four_bits(weight, known.get(weight.value, ())) for weight in steps}
        taken = chosen(found, self.four_bits)
        for weight in taken:
            context.explain(weight.node, f"4 bits in the file, error {found[weight].error:.2g}")
            expand(graph, weight, found[weight])
        return len(taken)

    def _in_eight_bits(self, graph: Graph) -> int:
        weights = self._to_eight_bits(graph) if self.eight_bits else []
        for weight in weights:
            expand(graph, weight, in_eight_bits(weight))
        return len(weights)

    def _to_eight_bits(self, graph: Graph) -> list[Weight]:
        found = stored_weights(graph, self.smallest)
        return [w for w in found if w.value.dtype is DType.FLOAT and _is_finite(w.value)]

    def _in_format(self, graph: Graph, context: Context) -> int:
        if self.format == _OFF:
            return 0
        weights = self._qualifying(graph)
        for weight in context.progress(weights, len(weights), "storing weights"):
            _store(graph, weight, _FORMATS[self.format])
        return len(weights)

    def _qualifying(self, graph: Graph) -> list[Value]:
        chosen = _FORMATS[self.format]
        return [v for v in graph.initializers if self._qualifies(v, chosen)]

    def _qualifies(self, weight: Value, chosen: _Format) -> bool:
        tensor = weight.tensor
        if tensor is None or tensor.dtype is not DType.FLOAT or tensor.size < self.smallest:
            return False
        if weight.is_output or weight.is_input:
            return False
        within = chosen.scaled or float(np.abs(weight.array()).max()) <= chosen.largest
        return _is_finite(weight) and within


def _is_finite(weight: Value) -> bool:
    return bool(np.isfinite(weight.array()).all())


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
