"""What a signature says of transpositions, attention and operands of fewer axes."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.cost.kernels import group_kernels
from graphopt.cost.signature import Signature, signature_of
from graphopt.cost.terms import Around, Grid, curve_keys, forgotten, terms
from graphopt.targets import host_target

GRID = Grid({"float32": 16, "int8": 16}, 1 << 20, 16 << 20, 4e3)


def _transposed(shape: list[int], perm: list[int]) -> Signature:
    out = [shape[axis] for axis in perm]
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float{shape} x) => (float{out} y) {{ y = Transpose<perm = {perm}>(x) }}
    """
    (kernel,) = group_kernels(ir.parse(text), host_target())
    return signature_of(kernel)


@pytest.mark.parametrize(
    ("shape", "perm", "line", "window"),
    [
        ([1, 64, 56, 56], [0, 2, 3, 1], 0, 1),  # one matrix
        ([1, 4, 224, 224], [0, 2, 3, 1], 0, 4),  # one with a short side
        ([1, 3, 224, 224], [0, 2, 3, 1], 0, 6),
        ([8, 64, 58], [0, 2, 1], 0, 1),  # several of them
        ([1, 2, 58, 28, 28], [0, 2, 1, 3, 4], 784, 1),  # whole images are copied
        ([1, 28, 28, 2, 58], [0, 4, 3, 1, 2], 1, 1),  # no matrix: element by element
        ([1, 12, 128, 64], [0, 2, 1, 3], 64, 1),
        ([2, 3, 4], [0, 1, 2], 0, 1),  # nothing moves
    ],
)
def test_what_a_transposition_keeps_together(
    shape: list[int], perm: list[int], line: int, window: int
) -> None:
    signature = _transposed(shape, perm)
    assert (signature.line, signature.window) == (line, window)


@pytest.mark.parametrize(
    ("shape", "perm", "key"),
    [
        ([1, 64, 56, 56], [0, 2, 3, 1], "float32.Transpose.plain"),
        ([1, 2, 58, 28, 28], [0, 2, 1, 3, 4], "float32.Transpose.runs"),
        ([1, 28, 28, 2, 58], [0, 4, 3, 1, 2], "float32.Transpose.scattered"),
    ],
)
def test_each_way_of_transposing_has_a_curve(shape: list[int], perm: list[int], key: str) -> None:
    assert curve_keys(_transposed(shape, perm), GRID)[0] == key


def test_an_operand_along_channels_is_met_in_runs() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,8,28,28] x, float[8,1,1] c) => (float[1,8,28,28] y) { y = Add(x, c) }
    """
    (kernel,) = group_kernels(ir.parse(text), host_target())
    signature = signature_of(kernel)
    assert signature.line == 784
    assert curve_keys(signature, GRID)[0] == "float32.Add.runs"


def test_heads_are_rows_of_a_fused_attention() -> None:
    text = """
        <ir_version: 11, opset_import: ["" : 23]>
        g (float[1,64,64] q, float[1,64,64] k, float[1,64,64] v) => (float[1,64,64] y) {
            y = Attention<q_num_heads = 8, kv_num_heads = 8>(q, k, v)
        }
    """
    (kernel,) = group_kernels(ir.parse(text), host_target())
    product = signature_of(kernel).product
    assert product is not None
    assert (product.rows, product.columns) == (512, 8)
    assert product.macs == 2 * 64 * 64 * 64


def _plain(kernel: str, kind: str, **sizes: int) -> Signature:
    given = {"elements": 100, "read_bytes": 400, "weight_bytes": 0, "write_bytes": 400} | sizes
    return Signature(kernel, kind, "float32", "plain", None, **given)


def test_only_what_is_taken_of_a_table_counts() -> None:
    table = _plain("Gather", "gather", weight_bytes=1 << 20)
    part = _plain("Slice", "movement", read_bytes=1 << 20)
    assert terms(table, GRID)["weight"] == 0.4
    assert terms(part, GRID)["moved"] == 0.8


def test_more_is_forgotten_in_a_longer_time() -> None:
    parts = [forgotten(0, us, GRID) for us in (0.0, 100.0, 4e3, 40e3)]
    assert parts == sorted(parts)
    assert parts[0] == 0.0
    assert parts[-1] == pytest.approx(1.0, abs=1e-4)
    assert forgotten(0, 1e9, Grid()) == 0.0
    kernel = _plain("Relu", "elementwise")
    assert terms(kernel, GRID, Around(0, 4e3))["cold_call"] == pytest.approx(0.632, abs=1e-3)
    assert terms(kernel, GRID)["cold_call"] == 0.0
