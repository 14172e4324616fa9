"""Matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from graphopt_torch.execution.registry import MICROSOFT, operator, plain

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor

plain({"MatMul": torch.matmul, "Det": torch.linalg.det})


@operator("Gemm")
def gemm(node: Node, _version: int) -> Kernel:
    """Return alpha * A' B' + beta * C, where A' and B' are A and B, transposed where stated."""
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    turn_a, turn_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))

    def kernel(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        left, right = a.t() if turn_a else a, b.t() if turn_b else b
        if not a.is_floating_point():
            return _whole_product(left, right, c, alpha, beta)
        if c is not None:
            return torch.addmm(c, left, right, beta=beta, alpha=alpha)
        made = torch.mm(left, right)
        return made if alpha == 1 else alpha * made

    return kernel


def _whole_product(
    left: Tensor, right: Tensor, c: Tensor | None, alpha: float, beta: float
) -> Tensor:
    """Return the product of matrices of integers; the factors of the terms are cut to integers."""
    made = int(alpha) * torch.matmul(left, right)
    return made if c is None else made + int(beta) * c


@operator("Einsum")
def _einsum(node: Node, _version: int) -> Kernel:
    equation = node.attribute("equation").replace(" ", "")
    return lambda *terms: torch.einsum(equation, *terms)


@operator("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def _scaled_product(node: Node, _version: int) -> Kernel:
    alpha = node.attribute("alpha", 1.0)
    turn_a, turn_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        left = a.transpose(-1, -2) if turn_a and a.dim() > 1 else a
        right = b.transpose(-1, -2) if turn_b and b.dim() > 1 else b
        made: Tensor = torch.matmul(left, right) * alpha
        return made

    return kernel
