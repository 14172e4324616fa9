"""Which tensors may lie in the memory of another, by what the runtime is able to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from graphopt.analysis import Step
from graphopt.cost.shapes import nbytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.kernels import Kernel
    from graphopt.ir import Graph, Value
    from graphopt.targets.base import Target

Sharing = Literal["none", "equal", "smaller"]
"""What an output may do with an input that nobody needs later.

``none``: nothing; not even a Reshape shares memory. What an interpreter does that copies reshapes
and gives every tensor a place of its own (TFLite Micro, by default).
``equal``: reshapes are views; an elementwise operator writes over an input of exactly its size.
onnxruntime's kernels declare that much.
``smaller``: it may also be smaller than that input, as QuantizeLinear's. What code that was
generated for one model can do (X-CUBE-AI, TVM); the rest of the input's memory stays taken.
"""


def sharing_of(target: Target) -> Sharing:
    """Return what the runtime of a target is assumed to be able to do."""
    return "equal" if target.runs_onnxruntime else "smaller"


def steps_of(kernels: Sequence[Kernel], sharing: Sharing) -> tuple[Step, ...]:
    """Return kernels as steps of the liveness analysis, in the same order."""
    return tuple(_step(kernel, sharing) for kernel in kernels)


def tensor_sizes(graph: Graph, kernels: Sequence[Kernel]) -> dict[str, int]:
    """Return the bytes of every activation that kernels, the caller or both touch, by name."""
    values = {v.name: v for k in kernels for v in (*k.reads, *k.writes)}
    values |= {v.name: v for v in (*graph.feeds, *graph.outputs)}
    return {name: nbytes(value) for name, value in values.items()}


def _step(kernel: Kernel, sharing: Sharing) -> Step:
    pairs = [(w, r) for w in kernel.writes[:1] for r in kernel.reads] if sharing != "none" else []
    over = [(w, r) for w, r in pairs if _fits(w, r, sharing)] if kernel.in_place else []
    return Step(
        name=f"{kernel.name} {kernel.node.label}",
        reads=tuple(v.name for v in kernel.reads),
        writes=tuple(v.name for v in kernel.writes),
        views=_names(pairs[:1] if kernel.is_view else []),
        in_place=_names(over),
    )


def _fits(written: Value, read: Value, sharing: Sharing) -> bool:
    if sharing == "equal":
        return nbytes(written) == nbytes(read)
    return nbytes(written) <= nbytes(read)


def _names(pairs: Sequence[tuple[Value, Value]]) -> tuple[tuple[str, str], ...]:
    return tuple((written.name, read.name) for written, read in pairs)
