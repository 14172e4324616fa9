"""Shape rules, by kind of operator; importing this package registers all of them."""

from __future__ import annotations

from graphopt.ir.inference.rules import (
    contrib,
    convolution,
    elementwise,
    generated,
    indexing,
    movement,
    product,
    quantized,
    recurrent,
    reduction,
)

__all__ = [
    "contrib",
    "convolution",
    "elementwise",
    "generated",
    "indexing",
    "movement",
    "product",
    "quantized",
    "recurrent",
    "reduction",
]
