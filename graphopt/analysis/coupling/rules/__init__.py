"""The rules that come with graphopt, by kind of operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.coupling.rules import (
    attention,
    convolution,
    elementwise,
    embedding,
    matrix_product,
    movement,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    reshape,
)

if TYPE_CHECKING:
    from graphopt.analysis.coupling.rule import CouplingRule

BUILTIN_RULES: tuple[CouplingRule, ...] = (
    *attention.RULES,
    *convolution.RULES,
    *elementwise.RULES,
    *embedding.RULES,
    *matrix_product.RULES,
    *movement.RULES,
    *normalization.RULES,
    *pooling.RULES,
    *quantization.RULES,
    *recurrent.RULES,
    *reduction.RULES,
    *reshape.RULES,
)
"""Every rule; no two for the same operator."""
