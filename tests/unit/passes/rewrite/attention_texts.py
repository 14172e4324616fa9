"""Attention spelled out in many ways, as ONNX text, for the tests of the pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.testing import graph

if TYPE_CHECKING:
    from graphopt import ir

HEAD = "float[N, T, 12] q, float[N, S, 12] k, float[N, S, 12] v"
CONSTANTS = (
    "float scale = {0.5}, int64[4] parts = {0, 0, 3, 4}, int64[3] flat = {0, 0, 12}, "
    "float zero = {0.0}, float lowest = {-3.4028234663852886e38}, float infinite = {-inf}"
)
QUERY = """q0 = Reshape (q, parts)
  q1 = Transpose <perm = [0, 2, 1, 3]> (q0)"""
KEY = """k0 = Reshape (k, parts)
  k1 = Transpose <perm = [0, 2, 3, 1]> (k0)"""
VALUE = """v0 = Reshape (v, parts)
  v1 = Transpose <perm = [0, 2, 1, 3]> (v0)"""
SCORES = """dots = MatMul (q1, k1)
  scores = Mul (dots, scale)"""
WEIGHTS = "weights = Softmax <axis = -1> (scores)"
GUARDED = """plain = Softmax <axis = -1> (scores)
  lost = IsNaN (plain)
  weights = Where (lost, zero, plain)"""
MIXED = "mixed = MatMul (weights, v1)"
ROWS = """back = Transpose <perm = [0, 2, 1, 3]> (mixed)
  y = Reshape (back, flat)"""


def attention(
    *,
    inputs: str = "",
    constants: str = "",
    head: str = HEAD,
    query: str = QUERY,
    key: str = KEY,
    value: str = VALUE,
    scores: str = SCORES,
    weights: str = WEIGHTS,
    mixed: str = MIXED,
    rows: str = ROWS,
    outputs: str = "float[N, T, 12] y",
    opset: int = 17,
) -> ir.Graph:
    """Return a model of one attention; every part may be written differently."""
    body = "\n  ".join((query, key, value, scores, weights, mixed, rows))
    text = f"m ({head}{inputs}) => ({outputs})\n<{CONSTANTS}{constants}> {{\n  {body}\n}}"
    return graph(text, opset=opset)
