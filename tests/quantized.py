"""Small quantized graphs, one for each fault that other tools leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.testing import graph

if TYPE_CHECKING:
    from graphopt.ir import Graph

X86, ARM = "x86-avx512-vnni", "arm"


def weights(*shape: int, seed: int = 0, kind: str = "int8") -> Any:
    """Return seeded weights that use the whole of the type."""
    low, high = (0, 256) if kind == "uint8" else (-128, 128)
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


_CONSTANTS = (
    "float s = {0.05}, float s1 = {0.04}, float s2 = {0.1}, float[1] v = {0.05}, "
    "float[4] sa = {0.05, 0.05, 0.05, 0.05}, float[4] sb = {0.05, 0.06, 0.05, 0.07}, "
    "float ws = {0.002}, float bs = {0.0001}, float b_off = {0.00011}, float relu_s = {0.05}, "
    "uint8 z = {128}, uint8 z0 = {0}, int8 i = {0}, int8[1] i1 = {0}, int8[4] i4 = {0, 0, 0, 0}, "
    "uint8[1] z1 = {128}, uint8[4] z4 = {128, 128, 128, 128}, int32 n = {0}, "
    "int16 h = {0}, int32[4] b = {100, -200, 300, 50}, float half = {0.5}, "
    "float[4] fb = {0.1, -0.2, 0.3, 0.05}, int64[2] shape = {1, 64}, "
    "uint8 low = {0}, uint8 high = {127}"
)


@dataclass(frozen=True)
class Case:
    """A faulty graph.

    Args:
        code: the finding that names the fault.
        body: nodes between ``x`` and ``y``.
        fixable: whether repair-qdq mends it.
        target: where it is a fault.
        shape: of ``x``.
        output: of ``y``.
        opset: of the model.
        opens: whether onnxruntime opens and runs the model as it is.
        floats: whether heavy operators run in float because of it.
    """

    code: str
    body: str
    fixable: bool = True
    target: str = X86
    shape: str = "1, 4, 4, 4"
    output: str = "1, 4, 4, 4"
    opset: int = 17
    opens: bool = True
    floats: bool = True

    def graph(self) -> Graph:
        """Return the graph, with every constant that some case needs."""
        text = (
            f"m (float[{self.shape}] x) => (float[{self.output}] y) <{_CONSTANTS}, "
            "int8[4, 4, 1, 1] w, uint8[4, 4, 1, 1] wu, int8[4, 4] m, int8[8, 4] table, "
            f"float[4, 4, 1, 1] fw> {{ {self.body} }}"
        )
        made = graph(
            text,
            opset=self.opset,
            w=weights(4, 4, 1, 1),
            wu=weights(4, 4, 1, 1, kind="uint8"),
            m=weights(4, 4, seed=1),
            table=weights(8, 4, seed=2),
            fw=weights(4, 4, 1, 1, seed=3).astype(np.float32) / 500,
        )
        for value in made.initializers:
            if not value.uses:
                made.remove_value(value)
        return made


def pair(source: str, name: str, scale: str = "s", zero: str = "z", axis: str = "") -> str:
    """Return Q and DQ of ``source``; the result is called ``name``."""
    parameters = ", ".join(filter(None, [scale, zero]))
    return (
        f"{name}_q = QuantizeLinear {axis}({source}, {parameters}) "
        f"{name} = DequantizeLinear {axis}({name}_q, {parameters}) "
    )


WEIGHT = "dw = DequantizeLinear (w, ws, i) "
MATRIX = "dm = DequantizeLinear (m, ws, i) "
CONV = pair("x", "a") + WEIGHT + "[conv] c = Conv (a, dw) "
SIGNED = pair("x", "a", "s", "i") + WEIGHT + "[conv] c = Conv (a, dw) "

CASES = {
    "no Q": Case("D101", CONV + "y = Relu (c)", fixable=False),
    "other reader": Case(
        "D102", CONV + pair("c", "d") + "e = Exp (c) y = Sub (d, e)", fixable=False
    ),
    "graph output": Case("D103", CONV.replace(" c =", " y ="), fixable=False),
    "float operand": Case(
        "D104",
        CONV + pair("c", "d") + "e = Exp (x) f = Add (d, e) " + pair("f", "y"),
        fixable=False,
        floats=False,
    ),
    "float constant": Case(
        "D105", CONV + pair("c", "d") + "f = Mul (d, half) " + pair("f", "y"), floats=False
    ),
    "omitted zero point": Case(
        "D106",
        pair("x", "a", "s", "") + "p = Reshape (a, shape) " + pair("p", "y", "s", ""),
        output="1, 64",
        floats=False,
    ),
    "vector around a reshape": Case(
        "D107",
        pair("x", "a", "v", "z1") + "p = Reshape (a, shape) " + pair("p", "y", "v", "z1"),
        output="1, 64",
        floats=False,
    ),
    "signed residual": Case(
        "D108", SIGNED + pair("c", "d", "s", "i") + "f = Add (d, a) " + pair("f", "y", "s", "i")
    ),
    "per-channel activation": Case(
        "D302",
        pair("x", "a", "sb", "z4", "<axis = 1> ") + WEIGHT + "c = Conv (a, dw) " + pair("c", "y"),
        fixable=False,
        opens=False,
        floats=False,
    ),
    "scales over the inputs": Case(
        "D203",
        pair("x", "a")
        + "dm = DequantizeLinear <axis = 0> (m, sb, i4) c = MatMul (a, dm) y = Exp (c)",
        shape="2, 4",
        output="2, 4",
        floats=False,
    ),
    "moved to another scale": Case(
        "D111",
        pair("x", "a") + "p = Reshape (a, shape) " + pair("p", "y", "s2"),
        output="1, 64",
        floats=False,
    ),
    "moved to a narrower scale": Case(
        "D111",
        pair("x", "a") + "p = Reshape (a, shape) " + pair("p", "y", "s1"),
        output="1, 64",
        floats=False,
        fixable=False,
    ),
    "bias off": Case(
        "D112",
        pair("x", "a")
        + WEIGHT
        + "db = DequantizeLinear (b, b_off, n) c = Conv (a, dw, db) "
        + pair("c", "y"),
    ),
    "symmetric behind relu": Case(
        "D113",
        SIGNED + "r = Relu (c) " + pair("r", "y", "s", "i"),
    ),
    "16 bits": Case(
        "D114",
        pair("x", "a", "s", "h") + WEIGHT + "c = Conv (a, dw) " + pair("c", "y", "s", "h"),
        opset=21,
        fixable=False,
    ),
    "scaled gemm": Case(
        "D115",
        pair("x", "a") + MATRIX + "c = Gemm <beta = 0.5> (a, dm, fb) " + pair("c", "y"),
        shape="2, 4",
        output="2, 4",
        fixable=False,
    ),
    "matmul with bias, rank 3": Case(
        "D117",
        pair("x", "a") + MATRIX + "c = MatMul (a, dm) y = Add (c, fb)",
        shape="1, 4, 4",
        output="1, 4, 4",
    ),
    "matmul with bias, rank 2": Case(
        "D117",
        pair("x", "a") + MATRIX + "c = MatMul (a, dm) y = Add (c, fb)",
        shape="2, 4",
        output="2, 4",
    ),
    "gemm with float bias": Case(
        "D118",
        pair("x", "a") + MATRIX + "y = Gemm (a, dm, fb)",
        shape="2, 4",
        output="2, 4",
    ),
    "operator without kernel": Case(
        "D120", pair("x", "a") + "e = Exp (a) " + pair("e", "y"), floats=False
    ),
    "weight-only conv": Case("D121", WEIGHT + "y = Conv (x, dw)"),
    "weight-only transposed gemm": Case(
        "D122",
        MATRIX + "y = Gemm <transB = 1> (x, dm)",
        shape="2, 4",
        output="2, 4",
    ),
    "unsigned weight on arm": Case(
        "D124",
        pair("x", "a", "s", "i")
        + "dw = DequantizeLinear (wu, ws, z) c = Conv (a, dw) "
        + pair("c", "y", "s", "i"),
        target=ARM,
    ),
    "clip of integers": Case(
        "D403",
        "q = QuantizeLinear (x, s, z0) k = Clip (q, low, high) a = DequantizeLinear (k, s, z0) "
        + WEIGHT
        + "c = Conv (a, dw) "
        + pair("c", "y"),
        floats=False,
    ),
    "excluded conv": Case(
        "D201", pair("x", "a") + "[kept] c = Conv (a, fw) " + pair("c", "y"), floats=False
    ),
    "saturation": Case(
        "D202", CONV + pair("c", "y"), target="x86-avx2", floats=False
    ),
    "add with vectors": Case(
        "D301",
        pair("x", "a", "v", "z1") + "f = Add (a, a) " + pair("f", "y", "v", "z1"),
        opens=False,
        floats=False,
    ),
    "per-channel Q behind conv": Case(
        "D302", CONV + pair("c", "y", "sb", "z4", "<axis = 1> "), opens=False, fixable=False,
        floats=False,
    ),
    "equal vector Q behind conv": Case(
        "D302", CONV + pair("c", "y", "sa", "z4", "<axis = 1> "), opens=False, floats=False
    ),
    "dynamic conv": Case(
        "D401",
        "q, qs, qz = DynamicQuantizeLinear (x) c = ConvInteger (q, w, qz, i) "
        "f = Cast <to = 1> (c) y = Mul (f, qs)",
        fixable=False,
        floats=False,
    ),
}  # fmt: skip
"""By what is wrong."""
