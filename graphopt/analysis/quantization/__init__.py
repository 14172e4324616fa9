"""Facts about quantized graphs: parameters, what fuses, and what does not, and why."""

from __future__ import annotations

from graphopt.analysis.quantization.diagnosis import (
    diagnose,
    is_quantized_product,
    products_at_risk,
)
from graphopt.analysis.quantization.findings import FLOAT_CODES, Finding, finding
from graphopt.analysis.quantization.operators import Rules
from graphopt.analysis.quantization.pairs import (
    QUANTIZED_OPERATORS,
    Affine,
    Tail,
    affine,
    dequantizer,
    has_quantization,
    is_dequantize,
    is_quantize,
    is_redundant,
    quantizer_behind,
    stored_constant,
    tail,
)

__all__ = [
    "FLOAT_CODES",
    "QUANTIZED_OPERATORS",
    "Affine",
    "Finding",
    "Rules",
    "Tail",
    "affine",
    "dequantizer",
    "diagnose",
    "finding",
    "has_quantization",
    "is_dequantize",
    "is_quantize",
    "is_quantized_product",
    "is_redundant",
    "products_at_risk",
    "quantizer_behind",
    "stored_constant",
    "tail",
]
