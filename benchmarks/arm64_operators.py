"""Single operators for the emulated arm64 machine: do they load, and what do they compute in?

MatMulNBits looks the same in an executed graph whether it computes in integers or in floats. Run
beside itself at accuracy level 0, which is float, it differs by the rounding of its activations to
8 bits exactly if it does the former.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import testing
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node

    Array = np.ndarray[Any, Any]

ROUNDED = 1e-4
"""Difference, relative to the largest output, above which activations were rounded.

Float arithmetic leaves 1e-6 and less, 8 bits about 5e-3.
"""

_ROWS, _COLUMNS = 3, 32


@dataclass(frozen=True, order=True)
class Packing:
    """What decides how MatMulNBits computes."""

    bits: int
    block: int
    zeros: str
    level: int

    def graph(self) -> Graph:
        """Return a model that computes a random product as it is packed, and in float."""
        inner = max(256, self.block)
        blocks = inner // self.block
        packed = self.block * self.bits // 8
        rng = np.random.default_rng(0)
        constants = {
            "w": rng.integers(0, 256, (_COLUMNS, blocks, packed), dtype=np.uint8),
            "s": rng.uniform(0.5, 1.5, _COLUMNS * blocks).astype(np.float32),
        }
        held = f"uint8[{_COLUMNS}, {blocks}, {packed}] w, float[{_COLUMNS * blocks}] s"
        given = "x, w, s"
        if self.zeros:
            count = _COLUMNS * (-(-blocks * self.bits // 8))
            kind = np.uint8 if self.zeros == "uint8" else np.float32
            count = count if kind is np.uint8 else _COLUMNS * blocks
            constants["z"] = rng.integers(0, 1 << self.bits, count).astype(kind)
            held += f", {'uint8' if kind is np.uint8 else 'float'}[{count}] z"
            given += ", z"
        common = f"K={inner}, N={_COLUMNS}, bits={self.bits}, block_size={self.block}"
        product = f"com.microsoft.MatMulNBits<{common}, accuracy_level="
        return testing.graph(
            f"m (float[{_ROWS}, {inner}] x) => (float[{_ROWS}, {_COLUMNS}] y, "
            f"float[{_ROWS}, {_COLUMNS}] plain) <{held}> {{"
            f" y = {product}{self.level}>({given}) plain = {product}0>({given}) }}",
            **constants,
        )


def packing_of(node: Node) -> Packing:
    """Return how a MatMulNBits is packed."""
    zeros = node.inputs[3] if len(node.inputs) > 3 else None
    kind = "" if zeros is None else "uint8" if zeros.dtype is DType.UINT8 else "float"
    return Packing(
        int(node.attribute("bits", 4)),
        int(node.attribute("block_size", 0)),
        kind,
        int(node.attribute("accuracy_level", 0)),
    )


def rounding(outputs: list[Array]) -> float:
    """Return how far the product of a packing's graph is from float, of the largest output."""
    packed, plain = (o.astype(np.float64) for o in outputs)
    return float(np.abs(packed - plain).max() / np.abs(plain).max())


_CACHE = "float[1, 4, 6, 16] k, float[1, 4, 6, 16] v"
_CODES = np.arange(64 * 32, dtype=np.int64).reshape(64, 32)

OPERATORS: dict[str, tuple[str, int, dict[str, Array]]] = {
    "Attention": (
        f"m (float[1, 4, 6, 16] q, {_CACHE}) => (float[1, 4, 6, 16] y) {{"
        " y = Attention<is_causal=1>(q, k, v) }",
        23,
        {},
    ),
    "Attention, grouped": (
        "m (float[1, 4, 6, 16] q, float[1, 2, 6, 16] k, float[1, 2, 6, 16] v)"
        " => (float[1, 4, 6, 16] y) { y = Attention<is_causal=1, scale=0.25>(q, k, v) }",
        23,
        {},
    ),
    "RotaryEmbedding": (
        "m (float[1, 4, 6, 16] x, float[6, 8] c, float[6, 8] s, int64[1, 6] p)"
        " => (float[1, 4, 6, 16] y) { y = RotaryEmbedding(x, c, s, p) }",
        23,
        {},
    ),
    "RMSNormalization": (
        "m (float[2, 6, 64] x, float[64] g) => (float[2, 6, 64] y) {"
        " y = RMSNormalization<axis=-1, epsilon=0.00001>(x, g) }",
        23,
        {},
    ),
    "Gelu": (
        'm (float[2, 64] x) => (float[2, 64] y) { y = Gelu<approximate="tanh">(x) }',
        23,
        {},
    ),
    "DynamicQuantizeMatMul": (
        "m (float[5, 64] x) => (float[5, 32] y) <int8[64, 32] w, float[32] s, float[32] b> {"
        " y = com.microsoft.DynamicQuantizeMatMul(x, w, s, , b) }",
        21,
        {
            "w": (_CODES * 37 % 255 - 127).astype(np.int8),
            "s": np.linspace(0.01, 0.02, 32, dtype=np.float32),
            "b": np.linspace(-1, 1, 32, dtype=np.float32),
        },
    ),
    "GatherBlockQuantized": (
        "m (int64[2, 6] i) => (float[2, 6, 32] y) <uint8[64, 32] w, float[64, 1] s> {"
        " y = com.microsoft.GatherBlockQuantized<bits=8, block_size=32, gather_axis=0,"
        " quantize_axis=1>(w, i, s) }",
        21,
        {"w": (_CODES % 256).astype(np.uint8), "s": np.full((64, 1), 0.01, np.float32)},
    ),
    "blockwise DequantizeLinear": (
        "m (float[3, 64] x) => (float[3, 32] y) <int8[64, 32] w, float[2, 32] s> {"
        " d = DequantizeLinear<axis=0, block_size=32>(w, s) y = MatMul(x, d) }",
        21,
        {"w": (_CODES * 37 % 255 - 127).astype(np.int8), "s": np.full((2, 32), 0.01, np.float32)},
    ),
}
"""Operators that graphopt's passes write: model text, opset and constants."""


def operator_graph(name: str) -> Graph:
    """Return one of ``OPERATORS`` as a model."""
    text, opset, constants = OPERATORS[name]
    return testing.graph(text, opset=opset, **constants)
