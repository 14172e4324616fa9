"""What the time of a kernel is made of: terms of its signature that only grow with its sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.cost.signature import Signature
    from graphopt.cost.work import Product

CONVOLUTION_KINDS = frozenset({"conv", "pointwise", "depthwise", "grouped"})

CONVOLUTION_TERMS = (
    "call", "cold_call", "mac", "out", "tile", "pass", "patch", "line", "column",
    "moved", "far_moved", "cold_moved", "spilled", "weight", "far_weight", "cold_weight",
)  # fmt: skip
DEPTHWISE_TERMS = (
    "call", "cold_call", "mac", "out", "place", "tile", "line",
    "moved", "far_moved", "cold_moved", "spilled", "weight",
)  # fmt: skip
PRODUCT_TERMS = (
    "call", "cold_call", "mac", "out", "pass", "column",
    "moved", "far_moved", "cold_moved", "spilled", "weight", "far_weight", "cold_weight",
)  # fmt: skip
ELEMENT_TERMS = (
    "call", "cold_call", "element", "line", "moved", "far_moved", "cold_moved", "spilled",
)  # fmt: skip
VISITING_TERMS = (*ELEMENT_TERMS, "visit")
"""Candidate terms by group of kernels; a fit chooses among them."""

_TERMS = {
    **dict.fromkeys(("conv", "pointwise", "grouped"), CONVOLUTION_TERMS),
    **dict.fromkeys(("pool", "movement"), VISITING_TERMS),
    "depthwise": DEPTHWISE_TERMS,
    **dict.fromkeys(("gemm", "gemv", "attention"), PRODUCT_TERMS),
}

_TILE = 6
"""Outputs of one line that a convolution's inner loop makes at once; the rest go one by one."""

_FILTERS = 64
"""Output channels for which an input is read once."""

_DOT_LENGTH = 4
"""Products that one integer instruction adds up."""


@dataclass(frozen=True)
class Grid:
    """What sizes are rounded to on a device, and where its caches end.

    Args:
        blocks: channels that are processed at once, by dtype.
        near_bytes: cache of one core (L2): more than this of weights is read from further away.
        far_bytes: last cache that one core can expect to keep: more is read from main memory.
        keep_us: time in which a last cache that others use as well forgets all but 1/e of what it
            held; infinite where it is not shared, or nothing is known.
    """

    blocks: Mapping[str, int] = field(default_factory=dict)
    near_bytes: int = 1 << 20
    far_bytes: int = 16 << 20
    keep_us: float = math.inf

    def block(self, dtype: str) -> int:
        """Return the channels that are processed at once."""
        return max(self.blocks.get(dtype, 1), 1)


@dataclass(frozen=True)
class Around:
    """What a kernel is executed among, which decides what caches still hold of its data.

    Args:
        resident_bytes: constants of the whole model, which compete for the caches.
        period_us: time from one inference to the next.
    """

    resident_bytes: int = 0
    period_us: float = 0.0


ALONE = Around()


def candidate_terms(kind: str) -> tuple[str, ...]:
    """Return the names of the terms that may decide the time of a class of kernels."""
    return _TERMS.get(kind, ELEMENT_TERMS)


def curve_keys(signature: Signature, grid: Grid) -> tuple[str, ...]:
    """Return the names of the curves for a kernel, the most exact one first.

    Convolutions: "dtype.kind.variant", where a variant is a first layer, an unaligned form, the
    plain layout, or one place of an image, which is a product with a vector. Products:
    "dtype.Kernel.kind". Others: "dtype.Kernel.layout", or how elements are walked through where
    that is not all in a row, and "dtype.Kernel". Then for all "dtype.kind", unless nothing is known
    of the kind, and "dtype.any".
    """
    kind, dtype = signature.kind, signature.dtype
    name = _COMMON.get(signature.kernel, signature.kernel)
    keys: tuple[str, ...]
    if kind == "pointwise" and signature.product is not None and signature.product.rows == 1:
        return (f"{dtype}.{kind}.one", f"{dtype}.gemv", f"{dtype}.any")
    if kind in CONVOLUTION_KINDS and signature.product is not None:
        variant = _variant(signature, signature.product, grid)
        keys = (f"{dtype}.{kind}.{variant}",) if variant else ()
        if variant == "plain" and kind == "grouped" and signature.product.window == 1:
            keys = (f"{dtype}.grouped.point", f"{dtype}.pointwise.plain")
        if variant and kind in {"pointwise", "grouped"}:
            keys = (*keys, f"{dtype}.conv.{variant}")
        if signature.kernel not in _COMMON:
            keys = (f"{dtype}.{signature.kernel}", *keys)
    elif signature.product is not None:
        keys = (f"{dtype}.{name}.{kind}",)
    else:
        keys = (f"{dtype}.{name}.{_runs(signature, name)}", f"{dtype}.{name}")
    coarse = {"other": (), "attention": (f"{dtype}.{kind}", f"{dtype}.gemm")}
    return (*keys, *coarse.get(kind, (f"{dtype}.{kind}",)), f"{dtype}.any")


_COMMON = {
    "Conv": "Conv", "FusedConv": "Conv", "NhwcFusedConv": "Conv", "QLinearConv": "QLinearConv",
    "FusedGemm": "Gemm", "FusedMatMul": "MatMul", "NhwcMaxPool": "MaxPool",
}  # fmt: skip
"""Operators whose class already says everything, and those that are others with more fused."""


def _runs(signature: Signature, name: str) -> str:
    """Return how elements are walked through: one by one, in runs, or all as the layout has them.

    An operand of fewer axes is met in runs; a transposition that keeps some elements together
    copies runs of them.
    """
    if name == "Transpose" and signature.line == 1:
        return "scattered"
    in_runs = name == "Transpose" or signature.kind == "elementwise"
    return "runs" if in_runs and signature.line else signature.layout


def _variant(signature: Signature, product: Product, grid: Grid) -> str:
    """Return how a convolution is executed where that is not the usual way."""
    block = grid.block(signature.dtype)
    few = signature.kind in {"conv", "pointwise"}
    if signature.dtype == "int8":
        if signature.kind == "depthwise":
            return "unaligned" if product.groups % block else ""
        rest = product.inputs % _DOT_LENGTH or product.columns % _DOT_LENGTH
        if product.columns < block or rest:
            return "unaligned"
        return "first" if few and product.inputs <= _DOT_LENGTH else ""
    if signature.layout == "blocked":
        return "first" if few and product.inputs < block else ""
    return "plain"


def terms(signature: Signature, grid: Grid, around: Around = ALONE) -> dict[str, float]:
    """Return every term of a kernel; each is at least 0 and grows with each size of the kernel.

    ``call`` 1; ``cold_call`` the part of the code that caches forgot since it was last used;
    ``mac`` 1e6 multiply-accumulates, channels rounded up to blocks; thousands of: ``out`` outputs
    (starts of a sum), ``place`` places that a window reads, ``tile`` products of the tiles of a
    line, ``pass`` reads of inputs, ``patch`` inputs copied side by side for a window, ``line``
    lines, ``column`` a right operand that is no constant, to be packed in every run, ``element``
    outputs, ``visit`` further elements of pooling windows; kilobytes of: ``moved`` activations,
    ``far_moved`` those of a model whose constants fill the near cache, ``cold_moved`` those whose
    memory no cache holds any longer when it is used again, ``spilled`` those that do not fit into
    the near cache, ``weight`` constants, ``far_weight`` those that the near cache does not keep
    from one inference to the next, ``cold_weight`` those that no cache keeps.

    Args:
        signature: the kernel.
        grid: blocks and caches of the device.
        around: what it is executed among.
    """
    product = signature.product
    found = _products(signature, product, grid) if product is not None else _elements(signature)
    moved = _moved(signature)
    weights = _weights(signature) / 1e3
    resident = max(around.resident_bytes, signature.weight_bytes)
    cold = forgotten(resident, around.period_us, grid)
    found["call"] = 1.0
    found["cold_call"] = cold
    found["moved"] = moved / 1e3
    found["far_moved"] = moved / 1e3 * missed(resident, grid.near_bytes)
    found["cold_moved"] = moved / 1e3 * cold
    found["spilled"] = max(moved - grid.near_bytes / 2, 0.0) / 1e3
    found["weight"] = weights
    found["far_weight"] = weights * missed(resident, grid.near_bytes)
    found["cold_weight"] = weights * cold
    return found


def missed(resident_bytes: float, cache_bytes: int) -> float:
    """Return which part of what is used in turn a cache no longer holds: 0 below half, 1 above."""
    half = cache_bytes / 2
    return min(max((resident_bytes - half) / half, 0.0), 1.0)


def forgotten(resident_bytes: float, period_us: float, grid: Grid) -> float:
    """Return which part of what is used once in an inference no cache holds at the next one."""
    kept = (1.0 - missed(resident_bytes, grid.far_bytes)) * math.exp(-period_us / grid.keep_us)
    return 1.0 - kept


def _moved(signature: Signature) -> int:
    if _takes_part(signature):
        return 2 * signature.write_bytes
    return signature.read_bytes + signature.write_bytes


def _weights(signature: Signature) -> int:
    if _takes_part(signature):
        return min(signature.weight_bytes, signature.write_bytes)
    return signature.weight_bytes


def _takes_part(signature: Signature) -> bool:
    """Whether a kernel reads only what it writes of its operands."""
    return signature.kind == "gather" or signature.kernel == "Slice"


def _products(signature: Signature, product: Product, grid: Grid) -> dict[str, float]:
    block = grid.block(signature.dtype)
    rows, groups = product.rows, product.groups
    if signature.kind == "depthwise":
        channels = _round_up(product.columns * groups, block)
        columns, inputs, groups = channels, 1, 1
    else:
        columns, inputs = _round_up(product.columns, block), _inputs(signature, product, block)
    reduction = inputs * product.window
    lines = rows / signature.line if signature.line else 1.0
    tiles = lines * _tiles(signature.line) if signature.line else rows / _TILE
    return {
        "mac": rows * columns * reduction * groups / 1e6,
        "out": rows * columns * groups / 1e3,
        "tile": tiles * reduction * columns * groups / 1e3,
        "pass": rows * reduction * groups * math.ceil(columns / _FILTERS) / 1e3,
        "patch": rows * reduction * groups / 1e3 if product.window > 1 else 0.0,
        "place": rows * product.window / 1e3,
        "line": lines * groups / 1e3,
        "column": 0.0 if signature.weight_bytes else columns * reduction * groups / 1e3,
    }


def _inputs(signature: Signature, product: Product, block: int) -> int:
    if signature.dtype == "int8":
        return _round_up(product.inputs, _DOT_LENGTH)
    if signature.layout == "blocked" and product.inputs >= block:
        return _round_up(product.inputs, block)
    return product.inputs


def _tiles(line: int) -> int:
    """Return in how many steps a line is made: full tiles, then one output at a time."""
    return line // _TILE + line % _TILE


def _elements(signature: Signature) -> dict[str, float]:
    lines = signature.elements / signature.line if signature.line else 0.0
    return {
        "element": signature.elements / 1e3,
        "visit": signature.elements * (signature.window - 1) / 1e3,
        "line": lines / 1e3,
    }


def _round_up(value: int, block: int) -> int:
    return math.ceil(value / block) * block
