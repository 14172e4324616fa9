"""The operators by family; importing this fills the table."""

from __future__ import annotations

from graphopt_torch.execution.operators import (
    activation,
    arithmetic,
    attention,
    blockwise,
    comparison,
    control,
    convolution,
    indexing,
    integer_products,
    movement,
    normalization,
    pooling,
    products,
    quantization,
    recurrent,
    reduction,
    resizing,
    shaping,
)

FAMILIES = (
    activation,
    arithmetic,
    attention,
    blockwise,
    comparison,
    control,
    convolution,
    indexing,
    integer_products,
    movement,
    normalization,
    pooling,
    products,
    quantization,
    recurrent,
    reduction,
    resizing,
    shaping,
)
