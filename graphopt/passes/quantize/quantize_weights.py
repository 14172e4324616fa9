"""Store weights in 2, 4 or 8 bits; activations stay float."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.calibration.gram import Gram
from graphopt.errors import ModelError, RecipeError
from graphopt.passes.base import PassResult
from graphopt.passes.quantize.weight_only import operators
from graphopt.passes.quantize.weight_only.awq import (
    divide_activations,
    feature_factors,
    scaled_curvature,
)
from graphopt.passes.quantize.weight_only.gptq import Curvature
from graphopt.passes.quantize.weight_only.methods import (
    quantize_rows,
    sampled,
    try_methods,
)
from graphopt.passes.quantize.weight_only.selection import Selection, Wishes, by_source, select
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from graphopt.ir import Graph, Value
    from graphopt.passes.base import Context
    from graphopt.passes.quantize.weight_only.blocks import Blocks, Grid
    from graphopt.passes.quantize.weight_only.matrices import Matrix

GRAM_BYTES = 256 << 20
"""Gram matrices that are accumulated in one run over the data."""

_CANDIDATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "auto": (("search", "hqq"), ("descent", "gptq-ordered", "gptq")),
    "rtn": (("rtn",), ("rtn",)),
    "hqq": (("hqq",), ("hqq",)),
    "search": (("search",), ("search",)),
    "gptq": (("search",), ("gptq-ordered", "gptq")),
    "descent": (("search",), ("descent",)),
    "awq": (("search",), ("search",)),
}
"""Methods that are tried, without and with data."""


@dataclass(frozen=True)
class QuantizeWeights:
    """Store the constant matrices of products and look-ups in few bits, block by block.

    Args:
        bits: width of a weight: 2, 4 or 8.
        block_size: weights that share a scale, along the input features: a power of two from 16
            on, or 0 for one scale per output feature.
        symmetric: store no zero points.
        zero_points: "integer", or "fractional": a better fit for another 16 or 32 bits per block;
            only for the format "matmulnbits" with 2 or 4 bits, and slower there.
        method: how codes are chosen. Without data: "rtn" (round to nearest), "hqq", "search"
            (scales of the smallest error). With data also "gptq", "descent" (coordinate descent on
            the error of the outputs) and "awq" (weights of important features made larger and
            activations smaller, then a search); without data these search. "auto" tries all but
            awq on every matrix and takes the one with the smallest expected error of its outputs.
        format: "matmulnbits" (operators of onnxruntime), or "dq" (plain ONNX: blockwise
            DequantizeLinear, which onnxruntime turns into the same operators).
        accuracy_level: of MatMulNBits: 4 lets it round activations to 8 bits, block by block, for
            integer arithmetic; 0 computes in float, slowly with 2 or 8 bits. The format "dq" cannot
            say it.
        embedding_bits: width of tables that rows are looked up in: 2, 4, 8, or 0 to leave them;
            with the format "dq" 8, as Gather takes no less. A table that holds the weights of a
            product too shares its codes with the format "matmulnbits".
        exclude: glob patterns of node names that are left alone.
        only: glob patterns; nodes whose names match none of them are left alone.
        min_elements: smaller matrices are left alone.
    """

    name: ClassVar[str] = "quantize-weights"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    bits: int = 4
    block_size: int = 32
    symmetric: bool = False
    zero_points: str = "integer"
    method: str = "auto"
    format: str = "matmulnbits"
    accuracy_level: int = 4
    embedding_bits: int = 8
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    min_elements: int = 1024

    def __post_init__(self) -> None:
        _demand("bits", self.bits, (2, 4, 8))
        _demand("embedding-bits", self.embedding_bits, (0, 2, 4, 8))
        _demand("zero-points", self.zero_points, ("integer", "fractional"))
        _demand("method", self.method, tuple(_CANDIDATES))
        _demand("format", self.format, ("matmulnbits", "dq"))
        _demand("accuracy-level", self.accuracy_level, (0, 1, 2, 3, 4))
        size = self.block_size
        if size and (size < 16 or size & (size - 1)):
            raise RecipeError(
                f"`block-size` is {size}", code="G103", hint="a power of two from 16 on, or 0"
            )
        if self.zero_points == "fractional" and (self.format == "dq" or self.bits == 8):
            where = "DequantizeLinear" if self.format == "dq" else "MatMulNBits of 8 bits"
            raise RecipeError(
                f"{where} has no fractional zero points",
                code="G103",
                hint='zero-points = "integer"',
            )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Quantize every matrix that is worth it; say why others stay."""
        ir.infer_shapes(graph)
        selection = select(graph, context, self._wishes())
        if not len(selection):
            return PassResult(False, ("no matrix is worth it",))
        upgraded = self._upgrade(graph)
        if isinstance(upgraded, str):
            return PassResult(False, (upgraded,))
        if upgraded:  # the nodes are others now
            ir.infer_shapes(graph)
            selection = select(graph, context, self._wishes())
        before = ir.tensor_bytes(graph)
        job = _Job(self, graph, context, selection)
        job.run()
        after = ir.tensor_bytes(graph)
        methods = ", ".join(f"{n} {m}" for m, n in sorted(job.methods.items()))
        count = len(selection)
        notes: tuple[str, ...] = (
            f"{count} matri{'ces' if count != 1 else 'x'} in {self.bits} bits ({methods})",
            f"constants {_size(before)} to {_size(after)}",
        )
        if job.divisions:
            notes += (f"{job.divisions} Mul added to divide activations",)
        metrics = {"matrices": count, "bytes_before": before, "bytes_after": after}
        return PassResult(True, notes, metrics)

    def _wishes(self) -> Wishes:
        return Wishes(
            self.bits,
            self.block_size,
            self.symmetric,
            self.zero_points == "fractional",
            8 if self.embedding_bits and self.format == "dq" else self.embedding_bits,
            self.exclude,
            self.only,
            self.min_elements,
        )

    def _upgrade(self, graph: Graph) -> bool | str:
        """Make the operator set new enough; return whether that changed it, or why not."""
        if self.format != "dq":
            return False
        needed = operators.OPSETS[self.bits]
        if graph.opset >= needed:
            return False
        try:
            ir.upgrade_opset(graph, needed)
        except ModelError as error:
            return f"blockwise DequantizeLinear needs opset {needed}: {error.message}"
        return True


def _demand(option: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        listed = ", ".join(str(a) for a in allowed)
        raise RecipeError(f"`{option}` is {value!r}", code="G103", hint=f"one of: {listed}")


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.1f} KiB"


class _Job:
    """The matrices of one graph on their way into few bits."""

    def __init__(
        self, step: QuantizeWeights, graph: Graph, context: Context, selection: Selection
    ) -> None:
        self.step = step
        self.graph = graph
        self.context = context
        self.selection = selection
        self.wishes = step._wishes()
        self.methods: Counter[str] = Counter()
        self.stored: dict[tuple[str, bool, str, Grid], operators.Stored] = {}
        self.divisions = 0

    def run(self) -> None:
        """Quantize products run by run, then look-ups."""
        steps = self.context.progress(self._steps(), len(self.selection), "quantizing weights")
        for matrix, curvature, twin in steps:
            if matrix.node.op == "Gather":
                self._look_up(matrix, twin)
            else:
                self._multiply(matrix, curvature)

    def _steps(self) -> Iterator[tuple[Matrix, Curvature | None, Matrix | None]]:
        """Yield each matrix with what is known of its inputs, and the product it is tied to."""
        for matrices in by_source(self.selection.factors, GRAM_BYTES):
            curvatures = self._curvatures(matrices)
            if self.step.method == "awq":
                matrices, curvatures = self._equalized(matrices, curvatures)
            for matrix in matrices:
                yield matrix, curvatures.get(matrix.source.name), None
        for index, table in enumerate(self.selection.tables):
            yield table, None, self.selection.tied.get(index)

    def _curvatures(self, matrices: list[Matrix]) -> Mapping[str, Curvature]:
        """Return the Hessian of each input that the data reach; runs the data once."""
        if not self.context.has_data or self.step.method in {"rtn", "hqq"}:
            return {}
        grams = {m.source.name: Gram() for m in matrices}
        for _, name, values in self.context.stream(self.graph, list(grams)):
            grams[name].update(values)
        return {name: Curvature(g.matrix / g.count) for name, g in grams.items() if g.count}

    def _equalized(
        self, matrices: list[Matrix], curvatures: Mapping[str, Curvature]
    ) -> tuple[list[Matrix], Mapping[str, Curvature]]:
        """Move magnitude from activations into weights, source by source."""
        scaled: list[Matrix] = []
        found: dict[str, Curvature] = {}
        for source in {m.source.name: m.source for m in matrices}.values():
            group = [m for m in matrices if m.source is source]
            curvature = curvatures.get(source.name)
            factors = None
            if curvature is not None:
                rows = [m.chosen(sampled(m.outputs)) for m in group]
                factors = feature_factors(rows, self.wishes.grid(group[0]), curvature)
            if curvature is not None and factors is not None:
                free = divide_activations(self.graph, source, factors, [m.node for m in group])
                self.divisions += not free
                group = [dataclasses.replace(m, factors=factors) for m in group]
                curvature = scaled_curvature(curvature, factors)
            scaled += group
            if curvature is not None:
                found[group[0].source.name] = curvature
        return scaled, found

    def _multiply(self, matrix: Matrix, curvature: Curvature | None) -> None:
        grid = self.wishes.grid(matrix)
        key = (*matrix.key, grid)
        stored = self.stored.get(key)
        if stored is None:
            stored = self._store(matrix, self._quantized(matrix, grid, curvature), grid)
            self.stored[key] = stored
        else:
            self.methods["shared"] += 1
            self.context.explain(matrix.node, "its weights are stored in few bits already: shared")
        if self.step.format == "dq":
            operators.multiply_plain(self.graph, matrix, stored)
        else:
            operators.multiply_packed(self.graph, matrix, stored, self.step.accuracy_level)
        _drop(self.graph, matrix.weight)

    def _look_up(self, table: Matrix, twin: Matrix | None) -> None:
        grid = self.wishes.grid(table)
        shared = self._shared(table, twin)
        key = (*table.key, grid)
        stored = shared or self.stored.get(key)
        if stored is None:
            stored = self._store(table, self._quantized(table, grid, None), grid)
            self.stored[key] = stored
        else:
            self.methods["shared"] += 1
            self.context.explain(table.node, "shares the codes of another node with its weights")
        if self.step.format == "dq":
            operators.look_up_plain(self.graph, table, stored)
        else:
            operators.look_up_packed(self.graph, table, stored)
        _drop(self.graph, table.weight)

    def _shared(self, table: Matrix, twin: Matrix | None) -> operators.Stored | None:
        """Return the codes of the product with the same weights, where a look-up can read them."""
        if twin is None or self.step.format == "dq":
            return None
        grid = self.wishes.grid(twin)
        if table.inputs % grid.block_size or (grid.fractional and not grid.symmetric):
            return None
        return self.stored.get((*twin.key, grid))

    def _quantized(self, matrix: Matrix, grid: Grid, curvature: Curvature | None) -> Blocks:
        without, with_data = _CANDIDATES[self.step.method]
        candidates = without if curvature is None else with_data
        method = candidates[0]
        rows = matrix.chosen(sampled(matrix.outputs))
        trials = try_methods(rows, grid, candidates, curvature)
        method = trials[0].method
        named = method if matrix.factors is None else "awq"
        self.methods[named] += 1
        what = "weights" if curvature is None else "outputs"
        self.context.explain(
            matrix.node,
            f"{grid.bits} bits by {named}: relative squared error of the {what} "
            f"{trials[0].error:.2g}",
        )
        return quantize_rows(matrix.rows, matrix.shape, grid, method, curvature)

    def _store(self, matrix: Matrix, blocks: Blocks, grid: Grid) -> operators.Stored:
        if self.step.format == "dq":
            by_row = matrix.node.op == "Gather"
            return operators.store_plain(self.graph, matrix, blocks, grid, by_row)
        return operators.store_packed(self.graph, matrix, blocks, grid)


def _drop(graph: Graph, weight: Value) -> None:
    """Remove a float constant that nobody reads any more, and what only transposed it."""
    for reader in weight.consumers:
        if reader.op == "Transpose" and reader.graph is graph:
            output = reader.outputs[0]
            if not output.uses and not output.is_output:
                graph.remove(reader)
    if weight.uses or weight.is_output:
        return
    if weight.producer is not None:
        graph.remove(weight.producer)
    elif weight.is_initializer:
        graph.remove_value(weight)
