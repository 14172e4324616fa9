"""Set weights to 0, one by one or in patterns, and let the others make up for it.

Zeros make a file smaller: stored sparsely, or by any compression. onnxruntime's CPU kernels
multiply by a zero as by any other number, so nothing gets faster there; runtimes and chips with
sparse kernels may gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult, counted
from graphopt.passes.prune.sparsity.layers import SparseLayer, sparse_layers
from graphopt.passes.prune.sparsity.moments import input_moments
from graphopt.passes.prune.sparsity.patterns import Pattern
from graphopt.passes.prune.sparsity.solve import Sparsified, sparsify
from graphopt.passes.prune.sparsity.storage import deflated_bytes, store_sparse
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph, Tensor, Value
    from graphopt.passes.base import Context

NO_FASTER = "the CPU provider computes zeros like other numbers: no time is gained"


@dataclass(frozen=True)
class SparsifyWeights:
    """Make the weights of Conv, ConvTranspose, Gemm and MatMul sparse.

    Embeddings, other look-ups and inner graphs are left alone. Stands before insert-qdq: symmetric
    integers keep zeros 0.

    Args:
        sparsity: share of weights that become 0 in each layer, 0 to 1; N:M settles it by itself.
        pattern: "unstructured"; "2:4" or any "N:M" (N of every M neighbouring input channels of an
            output stay); "block" (4 input channels at a time) or "RxC" (R outputs by C inputs).
        method: how zeros are chosen: "magnitude" (small weights), "wanda" (small weights times
            small inputs, output by output), or "obs" (one input after the other, the rest making
            up for it). Layers that no data reach go by magnitude.
        reconstruct: solve for the weights that stay, by least squares on the layer's outputs, and
            shift biases by the mean that is left; needs data.
        include: glob patterns of operator names; only these, depthwise convolutions among them.
            Without any: all but depthwise convolutions.
        exclude: glob patterns of operator names that stay dense.
        store: "dense", or "sparse": as ONNX sparse constants, wherever that takes fewer bytes.
            An index takes 8 bytes, so float32 must be two thirds zeros first.
    """

    name: ClassVar[str] = "sparsify-weights"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    sparsity: float = 0.5
    pattern: str = "unstructured"
    method: Literal["magnitude", "wanda", "obs"] = "obs"
    reconstruct: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    store: Literal["dense", "sparse"] = "dense"

    def __post_init__(self) -> None:
        _demand("method", self.method, ("magnitude", "wanda", "obs"))
        _demand("store", self.store, ("dense", "sparse"))
        Pattern.parse(self.pattern)
        if not 0.0 <= self.sparsity < 1.0:
            raise RecipeError(
                f"`sparsity` is {self.sparsity}", code="G103", hint="from 0 to below 1, such as 0.5"
            )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Make every layer sparse that qualifies; say why others stay dense."""
        ir.infer_shapes(graph)
        layers = sparse_layers(graph, context, self.include, self.exclude)
        if not layers:
            return PassResult(False, ("no weights to make sparse",))
        before = [_tensor(layer.weight) for layer in layers]
        bytes_before, deflated_before = ir.tensor_bytes(graph), deflated_bytes(before)
        uses_data = self.method != "magnitude" or self.reconstruct
        known = input_moments(graph, layers, context) if uses_data else {}
        pattern = Pattern.parse(self.pattern)
        found: list[Sparsified] = []
        weights: list[Value] = []
        for layer in context.progress(layers, len(layers), "sparsifying weights"):
            made = sparsify(layer, known, pattern, self.sparsity, self.method, self.reconstruct)
            for node in layer.nodes:
                context.explain(node, made.reason)
            weights.append(_write(graph, layer, made))
            found.append(made)
        stored = store_sparse(graph, weights) if self.store == "sparse" else 0
        changed = sum(m.weight is not None for m in found)
        if not changed and not stored:
            return PassResult(False, ("the weights are as sparse as asked for",))
        tensors = [_tensor(w) for w in weights]
        sizes = (bytes_before, ir.tensor_bytes(graph), deflated_before, deflated_bytes(tensors))
        return self._result(found, changed, stored, tensors, sizes)

    def _result(
        self,
        found: Sequence[Sparsified],
        changed: int,
        stored: int,
        tensors: Sequence[Tensor],
        sizes: tuple[int, int, int | None, int | None],
    ) -> PassResult:
        before, after, packed_before, packed = sizes
        arrays = [t.array() for t in tensors]
        zeros = sum(int((a == 0).sum()) for a in arrays) / sum(a.size for a in arrays)
        notes = [counted(changed, "weight", f"made sparse, {zeros:.0%} zeros ({self.pattern})")]
        blind = sum(m.weight is not None and m.method != self.method for m in found)
        if blind:
            notes.append(f"{blind} by magnitude, without data")
        if self.store == "sparse":
            rest = len(found) - stored
            notes.append(f"{stored} stored as sparse constants, {rest} smaller as they are")
        notes.append(f"constants {_size(before)} to {_size(after)}")
        metrics: dict[str, float] = {
            "weights": changed, "zeros": zeros, "stored_sparsely": stored,
            "bytes_before": before, "bytes_after": after,
        }  # fmt: skip
        if packed is not None and packed_before is not None:
            notes.append(f"these weights deflated: {_size(packed_before)} to {_size(packed)}")
            metrics |= {"deflated_before": packed_before, "deflated_after": packed}
        return PassResult(True, (*notes, NO_FASTER), metrics)


def _demand(option: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        hint = f"one of: {', '.join(allowed)}"
        raise RecipeError(f"`{option}` is {value!r}", code="G103", hint=hint)


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.1f} KiB"


def _tensor(weight: Value) -> Tensor:
    tensor = weight.tensor
    assert tensor is not None
    return tensor


def _write(graph: Graph, layer: SparseLayer, made: Sparsified) -> Value:
    """Give a layer its new weights and bias; return the constant that holds the weights."""
    if made.weight is None:
        return layer.weight
    bias = layer.bias
    if made.bias is not None and bias is not None:
        graph.set_tensor(bias, ir.Tensor.from_array(made.bias))
    if layer.weight.stored is not None:
        graph.set_tensor(layer.weight, ir.Tensor.from_array(made.weight))
        return layer.weight
    source = layer.weight.producer
    assert source is not None
    constant = graph.add_constant(f"{layer.weight.name}_sparse", made.weight)
    for node, index in layer.weight.uses:
        node.set_input(index, constant)
    graph.remove(source)
    return constant
