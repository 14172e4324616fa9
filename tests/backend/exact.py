"""The exact passes as tests run them, and when outputs count as equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes import builtin
from graphopt.passes.rewrite.align_channels import AlignChannels
from graphopt.passes.rewrite.convert_conv_to_matmul import ConvertConvToMatmul
from graphopt.passes.rewrite.merge_matrix_products import MergeMatrixProducts
from graphopt.passes.rewrite.unroll_lstm import UnrollLstm
from graphopt.passes.simplify.upgrade_opset import UpgradeOpset
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from graphopt.passes.base import Pass

_EAGER: Mapping[str, Callable[[], Pass]] = {
    "align-channels": lambda: AlignChannels(mode="on"),
    "convert-conv-to-matmul": lambda: ConvertConvToMatmul(max_rows=64),
    "merge-matrix-products": lambda: MergeMatrixProducts(max_rows=64),
    "unroll-lstm": lambda: UnrollLstm(max_rows=8, always=True),
}
"""Options that make a pass do its work on models as small as those of tests."""

EXACT_PASSES: Mapping[str, Callable[[], Pass]] = {
    **{p.name: p for p in builtin.graphopt_register_passes() if p.effect is Effect.EXACT},
    **_EAGER,
    "upgrade-opset to 23": lambda: UpgradeOpset(minimum=23, to=23),
}


def assert_equal_outputs(
    wanted: Sequence[Any],
    found: Sequence[Any],
    *,
    rtol: float,
    atol: float,
    who: str,
    scaled: bool = False,
) -> None:
    """Fail unless all outputs have the same kind, type, shape and, within tolerance, values.

    Args:
        wanted: the reference.
        found: what is compared with it.
        rtol: relative part of the tolerance.
        atol: absolute part.
        who: what the message begins with.
        scaled: take ``atol`` as a share of the largest finite value of each output.
    """
    assert len(wanted) == len(found), f"{who}: {len(found)} outputs, not {len(wanted)}"
    for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
        _assert_equal(one, other, rtol, atol, f"{who}, output {index}", scaled)


def _assert_equal(one: Any, other: Any, rtol: float, atol: float, who: str, scaled: bool) -> None:
    if isinstance(one, list | tuple):
        assert isinstance(other, list | tuple), f"{who}: no sequence"
        assert len(one) == len(other), f"{who}: {len(other)} elements, not {len(one)}"
        for a, b in zip(one, other, strict=True):
            _assert_equal(a, b, rtol, atol, who, scaled)
        return
    if not isinstance(one, np.ndarray):
        assert one is None, f"{who}: a {type(one).__name__}"
        assert other is None, f"{who}: something, not nothing"
        return
    assert isinstance(other, np.ndarray), f"{who}: no array"
    if one.dtype.kind in "OUS":
        np.testing.assert_array_equal(other.astype(str), one.astype(str), err_msg=who)
        return
    assert one.dtype == other.dtype, f"{who}: {other.dtype}, not {one.dtype}"
    assert one.shape == other.shape, f"{who}: shape {other.shape}, not {one.shape}"
    _assert_close(one, other, rtol, atol, who, scaled)


def _assert_close(
    one: np.ndarray[Any, Any],
    other: np.ndarray[Any, Any],
    rtol: float,
    atol: float,
    who: str,
    scaled: bool,
) -> None:
    if one.dtype.name == "bfloat16":
        # Two units in the last place; numpy does not promote the type itself.
        rtol = max(rtol, 2**-6)
    if one.dtype.kind == "V" or one.dtype.name.startswith(
        ("bfloat", "float8", "float4", "int4", "uint4", "int2", "uint2")
    ):
        try:
            one, other = one.astype(np.float32), other.astype(np.float32)
        except (TypeError, ValueError):
            assert one.tobytes() == other.tobytes(), who
            return
    if scaled and one.dtype.kind == "f":
        finite = np.abs(one[np.isfinite(one)])
        atol *= max(float(finite.max(initial=0.0)), 1e-6)
    np.testing.assert_allclose(other, one, rtol=rtol, atol=atol, err_msg=who)
