"""What decides the time of one kernel, as plain numbers: it can be measured, stored and fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.shapes import elements, nbytes
from graphopt.cost.work import Product, product_of

if TYPE_CHECKING:
    from graphopt.cost.kernels import Kernel


@dataclass(frozen=True)
class Signature:
    """One kernel without its graph.

    Args:
        kernel: the runtime's operator, such as ``QLinearConv``.
        kind: cost class, as in ``KernelCost``.
        dtype: what the arithmetic is done in: float32, float16 or int8.
        layout: plain, blocked or channels_last.
        product: the matrix product inside; None for kernels without one.
        elements: outputs.
        read_bytes: activations read.
        weight_bytes: constants read.
        write_bytes: activations written.
    """

    kernel: str
    kind: str
    dtype: str
    layout: str
    product: Product | None
    elements: int
    read_bytes: int
    weight_bytes: int
    write_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates, without padding."""
        return self.product.macs if self.product is not None else 0


def signature_of(kernel: Kernel) -> Signature:
    """Return what decides the time of ``kernel``; tensors of unknown size count as small."""
    return Signature(
        kernel=kernel.name,
        kind=kernel.kind,
        dtype=kernel.dtype,
        layout=kernel.layout,
        product=product_of(kernel.node),
        elements=sum(elements(v) for v in kernel.writes),
        read_bytes=0 if kernel.is_view else sum(nbytes(v) for v in kernel.reads),
        weight_bytes=sum(nbytes(v) for v in kernel.constants),
        write_bytes=0 if kernel.is_view else sum(nbytes(v) for v in kernel.writes),
    )
